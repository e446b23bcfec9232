#include "base/guid.h"
#include <string.h>

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static bool dash_before(unsigned byte)
{
    return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

bool msh_guid_parse(const char *text, msh_guid *out)
{
    msh_guid g;
    const char *p = text;
    for (unsigned i = 0; i < 16; i++) {
        if (dash_before(i) && *p++ != '-')
            return false;
        int high = digit(p[0]);
        int low = high < 0 ? -1 : digit(p[1]);
        if (low < 0)
            return false;
        g.bytes[i] = (uint8_t)(high << 4 | low);
        p += 2;
    }
    if (*p != '\0')
        return false;
    *out = g;
    return true;
}

void msh_guid_format(const msh_guid *g, char out[MSH_GUID_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    char *p = out;
    for (unsigned i = 0; i < 16; i++) {
        if (dash_before(i))
            *p++ = '-';
        *p++ = digits[g->bytes[i] >> 4];
        *p++ = digits[g->bytes[i] & 15];
    }
    *p = '\0';
}

msh_guid msh_guid_of_random(const uint8_t random[16])
{
    msh_guid g;
    memcpy(g.bytes, random, sizeof g.bytes);
    g.bytes[6] = (uint8_t)((g.bytes[6] & 0x0f) | 0x40);
    g.bytes[8] = (uint8_t)((g.bytes[8] & 0x3f) | 0x80);
    return g;
}
