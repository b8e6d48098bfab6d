/* The machine's name and its loopback interface. */
#ifndef PROPOLIS_IDENTITY_H
#define PROPOLIS_IDENTITY_H

/* Sets the host name; writes /etc/hostname and /etc/hosts where the image has none or an empty one. */
void identity_name(const char *hostname);

/* Brings up lo. */
void identity_loopback(void);

/* What /etc/resolv.conf says, if the image does not. */
void identity_resolver(const char *text);

#endif
