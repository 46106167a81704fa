"""The lab over MQTT: topics, the daemon's session, the clients' side of it, and a broker for where there is none."""
