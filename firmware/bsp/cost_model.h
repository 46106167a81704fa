// What work costs, in cycles of the core clock: the only source of time on a board without silicon.
//
// The figures are in the spirit of a Cortex-M4F at 80 MHz with CMSIS-NN: convolutions expand their input to 16 bit
// patches (im2col) and do two multiply-adds an instruction (SMLAD), with loads and loop overhead on top. Published
// MLPerf Tiny results of such boards lie near two cycles a multiply-add over a whole network, and so does this model.
// All costs depend on shapes and byte counts alone, never on values: a run takes the same cycles on every machine.

#ifndef COST_MODEL_H
#define COST_MODEL_H

// Kernels.
#define COST_KERNEL_CALL 300u      // entering a kernel, reading its parameters
#define COST_COPY_PER_4_BYTES 6u   // im2col: load int8, widen, store int16
#define COST_CONV_PER_4_MACS 7u    // dual multiply-add, both operands loaded, one patch shared by two filters
#define COST_DENSE_PER_4_MACS 6u   // dual multiply-add over contiguous rows
#define COST_REQUANTIZE 14u        // 64-bit multiply, rounding shift, offset, clamp, store
#define COST_POOL_PER_INPUT 3u     // load, compare or add
#define COST_POOL_MAX_OUTPUT 4u    // clamp, store
#define COST_POOL_MEAN_OUTPUT 24u  // rounding division, clamp, store
#define COST_SOFTMAX_PER_ROW 180u  // reciprocal of the sum: three Newton steps
#define COST_SOFTMAX_PER_INPUT 260u  // fixed-point exponential and the final scaling
#define COST_INFERENCE 600u        // the loop around the kernels

// Protocol.
#define COST_RECEIVE_BYTE 120u  // interrupt entry, store, wake-up
#define COST_PRINT_BYTE 40u     // formatting; the time on the wire comes on top
#define COST_COMMAND 2000u      // splitting and dispatching one command
#define COST_PARSE_BYTE 12u     // a digit of a number or of hex data

#endif
