/*
 * start.c - what runs before main on a Cortex-M4F under QEMU: vectors, FPU, data, and the command
 * line, which comes by semihosting as files and standard output do (newlib's rdimon.specs). With
 * BOARD_ALONE there is no C library behind main, as in firmware, and no command line.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t board_data[], board_data_end[], board_bss[], board_bss_end[], board_stack[];
extern const uint32_t board_data_from[];
extern int main(int argc, char **argv);
void board_start(void);

enum {
    GET_COMMAND_LINE = 0x15,
    EXIT = 0x18,
    RUN_TIME_ERROR = 0x20023,
    APPLICATION_EXIT = 0x20026,
    MOST_WORDS = 16
};

static uintptr_t ask_host(uintptr_t operation, uintptr_t parameter) {
    register uintptr_t r0 __asm__("r0") = operation;
    register uintptr_t r1 __asm__("r1") = parameter;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* A fault ends the run as a failure: the default would be an endless loop. */
static void fault(void) {
    (void)ask_host(EXIT, RUN_TIME_ERROR);
    for (;;) {
    }
}

/* A first stack pointer, then reset, NMI, hard fault, memory, bus and usage faults. */
__attribute__((section(".vectors"), used)) static const uintptr_t vectors[] = {
    (uintptr_t)board_stack, (uintptr_t)board_start, (uintptr_t)fault, (uintptr_t)fault,
    (uintptr_t)fault,       (uintptr_t)fault,       (uintptr_t)fault,
};

#ifdef BOARD_ALONE
static void run_main(void) {
    (void)ask_host(EXIT, main(0, NULL) == 0 ? APPLICATION_EXIT : RUN_TIME_ERROR);
}
#else
extern void initialise_monitor_handles(void);

/* Words of the command line, separated by single spaces. */
static int split(char *line, char **words) {
    int count = 0;
    for (char *word = strtok(line, " "); word != NULL && count < MOST_WORDS;
         word = strtok(NULL, " ")) {
        words[count++] = word;
    }
    return count;
}

static void run_main(void) {
    static char line[1024];
    static char *words[MOST_WORDS + 1];
    initialise_monitor_handles();
    uintptr_t where[2] = {(uintptr_t)line, sizeof line};
    (void)ask_host(GET_COMMAND_LINE, (uintptr_t)where);
    exit(main(split(line, words), words));
}
#endif

void board_start(void) {
    volatile uint32_t *const coprocessors = (volatile uint32_t *)0xe000ed88u; /* CPACR */
    *coprocessors |= 0xfu << 20; /* full access to the FPU */
    __asm__ volatile("dsb\n isb" ::: "memory");
    const size_t data_bytes = (size_t)((uintptr_t)board_data_end - (uintptr_t)board_data);
    memcpy(board_data, board_data_from, data_bytes);
    memset(board_bss, 0, (size_t)((uintptr_t)board_bss_end - (uintptr_t)board_bss));
    run_main();
}
