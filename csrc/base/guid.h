/* base/guid.h - 16 bytes as the text that documents and messages carry. */
#ifndef MSH_BASE_GUID_H
#define MSH_BASE_GUID_H
#include <stdbool.h>
#include <stdint.h>

#define MSH_GUID_TEXT 37 /* 36 characters and the end */

typedef struct msh_guid {
    uint8_t bytes[16]; /* in the order of the text */
} msh_guid;

/* 8-4-4-4-12 hexadecimal digits in either case, nothing around them. On false *out is untouched. */
bool msh_guid_parse(const char *text, msh_guid *out);
void msh_guid_format(const msh_guid *g, char out[MSH_GUID_TEXT]); /* lower case */
/* Makes 16 random bytes a random GUID (version 4). */
msh_guid msh_guid_of_random(const uint8_t random[16]);
#endif
