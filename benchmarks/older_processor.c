// Preloaded into a program, makes the processor look to it like one with AVX2 and neither AVX-512 nor VNNI nor AMX.
//
// The kernel lets a process forbid itself the instruction cpuid (arch_prctl, where the processor can; Linux on x86-64).
// Then each one traps, and what is answered here leaves out what an older processor has not. Exits with status 97 where
// that cannot be. Nothing keeps the program from using the instructions all the same, but libraries ask first.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { SET_CPUID = 0x1012, UNABLE = 97 };

static uint32_t without(uint32_t bits, const int *left_out, int count) {
  for (int i = 0; i < count; ++i) bits &= ~(UINT32_C(1) << left_out[i]);
  return bits;
}
#define WITHOUT(bits, ...) \
  without(bits, (const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int)))

static void hide(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) {
  if (leaf == 7 && subleaf == 0) {
    r[1] = WITHOUT(r[1], 16, 17, 21, 26, 27, 28, 30, 31);  // AVX-512 F DQ IFMA PF ER CD BW VL
    r[2] = WITHOUT(r[2], 1, 6, 11, 12, 14);                // VBMI VBMI2 VNNI BITALG VPOPCNTDQ
    r[3] = WITHOUT(r[3], 2, 3, 8, 22, 23, 24, 25);         // 4VNNIW 4FMAPS VP2INTERSECT AMX FP16
  } else if (leaf == 7 && subleaf == 1) {
    r[0] = WITHOUT(r[0], 4, 5, 21, 22, 23);  // AVX-VNNI BF16 AMX-FP16 HRESET AVX-IFMA
    r[3] = WITHOUT(r[3], 4, 5, 8, 10, 19);   // AVX-VNNI-INT8 NE-CONVERT AMX-COMPLEX AVX-VNNI-INT16 AVX10
  } else if (leaf == 0x1D || leaf == 0x1E || leaf == 0x24) {
    memset(r, 0, 4 * sizeof r[0]);  // tiles, AVX10
  }
}

static void answer(int number, siginfo_t *info, void *context) {
  (void)number, (void)info;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
  if (instruction[0] != 0x0F || instruction[1] != 0xA2) {
    signal(SIGSEGV, SIG_DFL);  // a fault of the program's own: it happens again
    return;
  }
  const uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX];
  uint32_t r[4];
  syscall(SYS_arch_prctl, SET_CPUID, 1);
  __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(subleaf));
  syscall(SYS_arch_prctl, SET_CPUID, 0);
  hide(leaf, subleaf, r);
  registers[REG_RAX] = r[0];
  registers[REG_RBX] = r[1];
  registers[REG_RCX] = r[2];
  registers[REG_RDX] = r[3];
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void look_older(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = answer;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, NULL);
  if (syscall(SYS_arch_prctl, SET_CPUID, 0) != 0) _exit(UNABLE);
}
