#include "clock.h"

#include <sys/timex.h>
#include <time.h>

#define STEP_NS 100000000
#define MOST_NS 9000000000000000000u

void clock_tell(uint64_t now)
{
    struct timespec time;
    if (now > MOST_NS || clock_gettime(CLOCK_REALTIME, &time) != 0)
        return;
    int64_t ahead = (int64_t)now - ((int64_t)time.tv_sec * 1000000000 + time.tv_nsec);
    if (ahead > -STEP_NS && ahead < STEP_NS) {
        struct timex slew = {.modes = ADJ_OFFSET_SINGLESHOT, .offset = (long)(ahead / 1000)};
        adjtimex(&slew);
        return;
    }
    time = (struct timespec){.tv_sec = (time_t)(now / 1000000000), .tv_nsec = (long)(now % 1000000000)};
    clock_settime(CLOCK_REALTIME, &time);
}
