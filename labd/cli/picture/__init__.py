"""Pictures of traces: a scene says what there is to see, the drawing shows it."""
