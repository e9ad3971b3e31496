/* The image of the kernels, as data. */
        .section .rodata
        .global kvot_cuda_module
        .hidden kvot_cuda_module
        .balign 16
kvot_cuda_module:
        .incbin MODULE
        .section .note.GNU-stack, "", %progbits
