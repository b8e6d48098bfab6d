/* Finds and executes a program in the guest's root, and explains when that fails. */
#ifndef PROPOLIS_PROGRAM_H
#define PROPOLIS_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

/* Executes argv[0], looked up in the PATH of `env`; returns an enum wire_failure with a sentence in `text`. */
uint32_t program_execute(char *const *argv, char *const *env, char *text, size_t size);

#endif
