/* A plugin of QEMU's user mode that counts the guest's instructions.
 *
 * The guest says where it is by writing k bytes to file descriptor 1000, which isn't open: the plugin then prints
 * "mark k: n", n being the instructions of all its threads since the last mark.
 *
 * QEMU 7.2's plugin interface, version 1; Debian's package has no header of it, so what is used is declared here.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#define EXPORTED __attribute__((visibility("default")))
#define MARKS 1000
#define WRITE 64 /* the system call's number on aarch64 */

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
enum { ADD_U64 };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *block, int op, void *counter, uint64_t by);
extern void qemu_plugin_register_vcpu_syscall_cb(
    plugin_id id, void (*call)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                               uint64_t, uint64_t));

EXPORTED int qemu_plugin_version = 1;

static uint64_t counted, before;

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    qemu_plugin_register_vcpu_tb_exec_inline(block, ADD_U64, &counted, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t file, uint64_t buffer, uint64_t bytes,
                   uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e) {
    if (number == WRITE && file == MARKS) {
        fprintf(stderr, "mark %" PRIu64 ": %" PRIu64 "\n", bytes, counted - before);
        before = counted;
    }
}

EXPORTED int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
