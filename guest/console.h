/* The machine's last words and its end. */
#ifndef PROPOLIS_CONSOLE_H
#define PROPOLIS_CONSOLE_H

#include <stdint.h>

/* Opens /dev/console for errors; the first three descriptors become /dev/null. */
void console_open(void);

/* Prints one line "propolis-init: ..." on the console. */
void console_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Prints one line and powers the machine off. */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As above, with the text of errno at the end. */
_Noreturn void die_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Flushes what is dirty, makes the writable disk read-only, powers off. Never returns. */
_Noreturn void power_off(void);

/* Milliseconds since the kernel began. */
uint64_t now_ms(void);

#endif
