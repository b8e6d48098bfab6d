#include "sddl.h"

#include <ctype.h>
#include <string.h>

#include "codes.h"

#define INVALID_SID CODE(0x80070539u)
#define INVALID_ACL CODE(0x80070538u)

/* Two letters each. */
static const char aliases[] =
    "AA AC AN AO AP AS AU BA BG BO BU CA CD CG CN CO CY DA DC DD DG DU EA ED EK ER ES HA HI HO IS IU KA LA "
    "LG LS LU LW ME MP MS MU NO NS NU OW PA PO PS PU RA RC RD RE RM RO RS RU SA SI SO SS SU SY UD WD WR ";
static const char ace_types[] = "A D OA OD AU AL OU OL XA XD ZA RA ML SP ";
static const char ace_flags[] = "CI OI NP IO ID SA FA CR ";
static const char rights[] = "GA GR GW GX RC SD WD WO RP WP CC DC LC SW LO DT CR FA FR FW FX KA KR KW KX NR NW NX ";
static const char acl_flags[] = "P AR AI ";

/* The length of the word that `at` begins with, out of `words` (each followed by a space); 0: none. */
static size_t word(const char *at, const char *words)
{
    for (const char *known = words; *known != '\0';) {
        size_t length = strcspn(known, " ");
        if (strncmp(at, known, length) == 0)
            return length;
        known += length + 1;
    }
    return 0;
}

/* A SID: an alias or S-1-...; returns what follows, NULL if there is none. */
static const char *sid(const char *at)
{
    if (strncmp(at, "S-1-", 4) == 0) {
        int parts = 0;
        for (at += 3; *at == '-'; parts++) {
            if (!isxdigit((unsigned char)*++at))
                return NULL;
            while (isxdigit((unsigned char)*at) || *at == 'x')
                at++;
        }
        return parts >= 2 && parts <= 16 ? at : NULL;
    }
    return word(at, aliases) == 2 ? at + 2 : NULL;
}

static const char *access_mask(const char *at)
{
    if (at[0] == '0' && at[1] == 'x') {
        at += 2;
        if (!isxdigit((unsigned char)*at))
            return NULL;
        while (isxdigit((unsigned char)*at))
            at++;
        return at;
    }
    const char *start = at;
    for (size_t length; (length = word(at, rights)) > 0;)
        at += length;
    return at > start || *at == ';' ? at : NULL;
}

/* (type;flags;rights;object;inherited object;sid); returns what follows. */
static const char *ace(const char *at)
{
    size_t length = *at == '(' ? word(at + 1, ace_types) : 0;
    /* OA begins like no other, but A is also the beginning of AU and AL */
    if (length == 1 && at[2] != ';')
        length = 2;
    if (length == 0 || at[1 + length] != ';')
        return NULL;
    at += length + 2;
    for (size_t flag; (flag = word(at, ace_flags)) > 0;)
        at += flag;
    if (*at++ != ';' || (at = access_mask(at)) == NULL || *at++ != ';')
        return NULL;
    for (int object = 0; object < 2; object++) {
        at += strspn(at, "0123456789abcdefABCDEF-");
        if (*at++ != ';')
            return NULL;
    }
    if ((at = sid(at)) == NULL || *at != ')')
        return NULL;
    return at + 1;
}

static const char *acl(const char *at)
{
    for (size_t length; (length = word(at, acl_flags)) > 0;)
        at += length;
    while (*at == '(')
        if ((at = ace(at)) == NULL)
            return NULL;
    return at;
}

bool sddl_check(const char *text, struct verdict *verdict)
{
    const char *at = text;
    bool any = false;
    for (; *at != '\0'; any = true) {
        char part = *at++;
        if (*at++ != ':')
            return complain(verdict, INVALID_PARAMETER, "'%s' is no security descriptor", text);
        if (part == 'O' || part == 'G') {
            if ((at = sid(at)) == NULL)
                return complain(verdict, INVALID_SID, "'%s' has no valid SID after %c:", text, part);
        } else if (part == 'D' || part == 'S') {
            if ((at = acl(at)) == NULL)
                return complain(verdict, INVALID_ACL, "'%s' has no valid access list after %c:", text, part);
        } else
            return complain(verdict, INVALID_PARAMETER, "'%s' is no security descriptor", text);
    }
    return any || complain(verdict, INVALID_PARAMETER, "a security descriptor is empty");
}
