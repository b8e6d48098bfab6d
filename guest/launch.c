#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "account.h"
#include "builtin.h"
#include "confine.h"
#include "console.h"
#include "namespace.h"
#include "program.h"
#include "wire.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define PIPE_BYTES (256 * 1024)

/* The child's three descriptors, and ours. */
struct ends {
    int child[3], ours[3];
};

static void fail(struct launch_failure *failure, uint32_t code, const char *format, ...)
{
    va_list arguments;
    failure->code = code;
    va_start(arguments, format);
    vsnprintf(failure->text, sizeof failure->text, format, arguments);
    va_end(arguments);
}

static void close_all(int *fds, int count)
{
    for (int i = 0; i < count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static bool make_pipes(struct ends *ends)
{
    for (int i = 0; i < 3; i++) {
        int pair[2];
        if (pipe2(pair, O_CLOEXEC) != 0)
            return false;
        ends->child[i] = pair[i == 0 ? 0 : 1];
        ends->ours[i] = pair[i == 0 ? 1 : 0];
        fcntl(ends->ours[i], F_SETFL, O_NONBLOCK);
        fcntl(ends->ours[i], F_SETPIPE_SZ, PIPE_BYTES); /* fewer changes of process on one CPU */
    }
    return true;
}

static bool make_terminal(struct ends *ends, const struct spec *spec)
{
    struct winsize size = {.ws_row = spec->rows, .ws_col = spec->columns};
    int unlock = 0;
    ends->ours[0] = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (ends->ours[0] < 0 || ioctl(ends->ours[0], TIOCSPTLCK, &unlock) != 0)
        return false;
    ioctl(ends->ours[0], TIOCSWINSZ, &size);
    ends->ours[1] = fcntl(ends->ours[0], F_DUPFD_CLOEXEC, 3);
    ends->child[0] = ioctl(ends->ours[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ends->ours[1] < 0 || ends->child[0] < 0)
        return false;
    ends->child[1] = fcntl(ends->child[0], F_DUPFD_CLOEXEC, 3);
    ends->child[2] = fcntl(ends->child[0], F_DUPFD_CLOEXEC, 3);
    return ends->child[1] >= 0 && ends->child[2] >= 0;
}

static bool has_variable(char *const *env, const char *name)
{
    size_t length = strlen(name);
    for (; *env != NULL; env++)
        if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
            return true;
    return false;
}

/* The environment with docker's defaults before it. Leaks: the child lives until execve only. */
static char **environment(const struct spec *spec, const char *hostname, const char *home)
{
    const struct { const char *name, *value; bool wanted; } defaults[] = {
        {"PATH", DEFAULT_PATH, true}, {"HOSTNAME", hostname, hostname[0] != '\0'}, {"TERM", "xterm", spec->tty}, {"HOME", home, true}};
    size_t count = 0, used = 0;
    while (spec->env[count] != NULL)
        count++;
    char **env = calloc(count + 5, sizeof *env);
    if (env == NULL)
        return NULL;
    for (size_t i = 0; i < 4; i++) {
        if (!defaults[i].wanted || has_variable(spec->env, defaults[i].name))
            continue;
        if (asprintf(&env[used++], "%s=%s", defaults[i].name, defaults[i].value) < 0)
            return NULL;
    }
    memcpy(env + used, spec->env, count * sizeof *env);
    return env;
}

/* Makes a directory and its parents. */
static bool make_path(const char *path)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return false;
    for (char *at = copy + 1; (at = strchr(at, '/')) != NULL; at++) {
        *at = '\0';
        mkdir(copy, 0755);
        *at = '/';
    }
    bool made = mkdir(copy, 0755) == 0 || errno == EEXIST;
    free(copy);
    return made;
}

static bool enter(const char *path, bool make, struct launch_failure *failure)
{
    if (chdir(path) == 0 || (make && errno == ENOENT && make_path(path) && chdir(path) == 0))
        return true;
    fail(failure, FAILURE_WORKING_DIR, "cannot enter the working directory %.1024s: %s", path, strerror(errno));
    return false;
}

static bool become(const struct account *account, struct launch_failure *failure)
{
    /* So that /dev/stdout and the like can be opened again by a user who is not root. */
    for (int fd = 0; fd < 3; fd++)
        (void)!fchown(fd, account->uid, (gid_t)-1);
    if (setgroups(account->group_count, account->groups) == 0 && setgid(account->gid) == 0 && setuid(account->uid) == 0)
        return true;
    fail(failure, FAILURE_SYSTEM, "cannot become user %u: %s", (unsigned)account->uid, strerror(errno));
    return false;
}

static void reset_process(const struct spec *spec)
{
    /* As systemd sets them: 1024 keeps select() safe, and whoever needs more may raise it. */
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288};
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &action, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(spec->umask < 0 ? 022 : (mode_t)spec->umask);
    setpriority(PRIO_PROCESS, 0, 0); /* the agent's own is higher */
}

static bool set_limits(const struct spec *spec, struct launch_failure *failure)
{
    for (int i = 0; i < spec->rlimit_count; i++) {
        const struct spec_rlimit *limit = &spec->rlimits[i];
        struct rlimit value = {.rlim_cur = limit->soft < 0 ? RLIM_INFINITY : (rlim_t)limit->soft,
                               .rlim_max = limit->hard < 0 ? RLIM_INFINITY : (rlim_t)limit->hard};
        if (limit->resource < 0 || setrlimit((int)limit->resource, &value) != 0) {
            fail(failure, FAILURE_INVALID, "cannot set limit %d: %s", (int)limit->resource, strerror(errno));
            return false;
        }
    }
    return true;
}

/* Gives up what the process is not to have; the user is changed in the midst of it. */
static bool confine(const struct spec *spec, const struct account *account, struct launch_failure *failure)
{
    bool limited = spec->capabilities >= 0;
    if (limited && !confine_bounds(spec->capabilities))
        fail(failure, FAILURE_SYSTEM, "cannot drop capabilities: %s", strerror(errno));
    else if (!become(account, failure))
        return false;
    else if (spec->no_new_privs && !confine_privileges())
        fail(failure, FAILURE_SYSTEM, "cannot set no_new_privs: %s", strerror(errno));
    else if (spec->seccomp && !confine_calls())
        fail(failure, FAILURE_SYSTEM, "cannot install the seccomp filter: %s", strerror(errno));
    else if (limited && !confine_capabilities(spec->capabilities, account->uid == 0))
        fail(failure, FAILURE_SYSTEM, "cannot drop capabilities: %s", strerror(errno));
    else
        return true;
    return false;
}

/* In the child: a program of the agent's own, which needs no execve. */
static _Noreturn void run_builtin(const struct spec *spec, int report)
{
    close(report); /* the host hears that it runs */
    syscall(SYS_close_range, 3, ~0U, 0); /* what execve would have closed */
    int status = builtin_run(spec->argv);
    fflush(stderr);
    _exit(status & 0xff);
}

/* In the child: everything up to execve. Returns only when that failed. */
static void run(const struct spec *spec, const char *hostname, bool make_directory, const struct ends *ends, int report,
                struct launch_failure *failure)
{
    static struct account account;
    setsid();
    for (int fd = 0; fd < 3; fd++)
        if (dup2(ends->child[fd], fd) < 0) {
            fail(failure, FAILURE_SYSTEM, "cannot set up the standard streams: %s", strerror(errno));
            return;
        }
    if (spec->tty && ioctl(0, TIOCSCTTY, 0) != 0) {
        fail(failure, FAILURE_SYSTEM, "cannot take the terminal: %s", strerror(errno));
        return;
    }
    if (account_resolve(&account, spec->user, spec->groups, failure->text, sizeof failure->text) != 0) {
        failure->code = FAILURE_USER;
        return;
    }
    char **env = environment(spec, hostname, account.home);
    if (env == NULL) {
        fail(failure, FAILURE_RESOURCES, "no memory for the environment");
        return;
    }
    reset_process(spec);
    if (!enter(spec->working_dir, make_directory, failure) || !set_limits(spec, failure) || !confine(spec, &account, failure))
        return;
    if (spec->builtin)
        run_builtin(spec, report);
    failure->code = program_execute(spec->argv, env, failure->text, sizeof failure->text);
}

bool launch(const struct spec *spec, const char *hostname, bool make_directory, struct launched *launched,
            struct launch_failure *failure)
{
    struct ends ends = {.child = {-1, -1, -1}, .ours = {-1, -1, -1}};
    int report[2] = {-1, -1};
    pid_t pid = -1;
    bool ready = (spec->tty ? make_terminal(&ends, spec) : make_pipes(&ends)) && pipe2(report, O_CLOEXEC | O_NONBLOCK) == 0;
    if (ready)
        pid = spec->builtin ? fork() : namespace_fork();
    if (pid == 0) {
        memset(failure, 0, sizeof *failure);
        run(spec, hostname, make_directory, &ends, report[1], failure);
        (void)!write(report[1], failure, sizeof *failure); /* smaller than PIPE_BUF: whole or not at all */
        _exit(127);
    }
    if (pid < 0) {
        fail(failure, FAILURE_RESOURCES, "cannot start a process: %s", strerror(errno));
        close_all(ends.ours, 3);
        close_all(report, 1);
    }
    close_all(ends.child, 3);
    close_all(report + 1, 1);
    *launched = (struct launched){.pid = pid, .report = report[0], .input = ends.ours[0], .output = ends.ours[1], .errors = ends.ours[2]};
    return pid > 0;
}
