/*
 * block_counts.c - a plugin for QEMU's user emulation (plugin interface 1: QEMU 4.2 to 8.2) that
 * counts how often each translated block runs. On exit it writes a line a block to the file given
 * as out=FILE: its address, its instructions, its executions.
 *
 * The few declarations used are written here, because not every distribution ships qemu-plugin.h.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
enum { INLINE_ADD_U64 = 0 };
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id,
                                           void (*translated)(uint64_t id,
                                                              struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int operation,
                                              void *counter, uint64_t add);
void qemu_plugin_register_atexit_cb(uint64_t id, void (*exits)(uint64_t id, void *data),
                                    void *data);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

EXPORT int qemu_plugin_version = 1;

typedef struct block {
    uint64_t address, executions;
    size_t instructions;
    struct block *next;
} block;

static block *blocks;

static void translated(uint64_t id, struct qemu_plugin_tb *tb) {
    (void)id;
    block *seen = calloc(1, sizeof *seen);
    if (seen == NULL) {
        abort();
    }
    seen->address = qemu_plugin_tb_vaddr(tb);
    seen->instructions = qemu_plugin_tb_n_insns(tb);
    seen->next = blocks;
    blocks = seen;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &seen->executions, 1);
}

static void exits(uint64_t id, void *path) {
    (void)id;
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        perror(path);
        return;
    }
    for (const block *at = blocks; at != NULL; at = at->next) {
        fprintf(out, "%" PRIx64 " %zu %" PRIu64 "\n", at->address, at->instructions,
                at->executions);
    }
    fclose(out);
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) {
        fprintf(stderr, "block_counts: expected out=FILE\n");
        return 1;
    }
    static char path[4096];
    snprintf(path, sizeof path, "%s", argv[0] + 4);
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, exits, path);
    return 0;
}
