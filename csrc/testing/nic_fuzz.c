/* Any settings of a NIC: refused, or read into what the kernel may be asked for; and whatever names it brings, the container's
 * resolv.conf has lines of the two kinds alone. */
#include "agent/files.h"
#include "agent/nic.h"
#include "testing/fuzz.h"
#include <string.h>

static void look_at_ip(const msh_ip *ip)
{
    must(ip->family == 4 || ip->family == 6);
    must(ip->prefix <= (ip->family == 4 ? 32u : 128u));
}

static void look_at_file(const char *search, const char *servers)
{
    const char *const searches[] = {search, search}, *const lists[] = {servers, servers};
    msh_buf text;
    msh_err err = {0};
    msh_buf_init(&text, 64u << 10);
    if (msh_resolv_file(searches, lists, 2, &text, &err) != MSH_OK) {
        must(err.code != MSH_OK && err.msg[0] != '\0');
        msh_buf_free(&text);
        return;
    }
    msh_slice s = msh_buf_slice(&text);
    while (s.n > 0) {
        const char *end = memchr(s.p, '\n', s.n);
        must(end != NULL);
        size_t n = (size_t)(end - s.p);
        must((n > 7 && memcmp(s.p, "search ", 7) == 0) || (n > 11 && memcmp(s.p, "nameserver ", 11) == 0));
        for (size_t i = 0; i < n; i++)
            must(s.p[i] > 0x1f && s.p[i] < 0x7f && s.p[i] != '#' && s.p[i] != ';');
        s.p += n + 1;
        s.n -= n + 1;
    }
    msh_buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    msh_err err = {0};
    json_t *settings = msh_json_parse((msh_slice){(const char *)data, size}, "settings", &err);
    if (settings == NULL) {
        must(err.code == MSH_INVALID_ARGUMENT);
        return 0;
    }
    msh_nic *nic = msh_nic_read(settings, "a-1", &err);
    json_decref(settings); /* what was read is the NIC's own */
    must(nic != NULL || err.code != MSH_OK);
    if (nic == NULL)
        return 0;
    static const msh_mac zero;
    must(!nic->has_mac || memcmp(&nic->mac, &zero, sizeof zero) != 0);
    must(nic->n_addresses <= MSH_NIC_ADDRESSES && nic->n_routes <= MSH_NIC_ROUTES);
    for (size_t i = 0; i < nic->n_addresses; i++)
        look_at_ip(&nic->address[i]);
    for (size_t i = 0; i < nic->n_routes; i++) {
        look_at_ip(&nic->route[i].to);
        must(nic->route[i].via.family == 0 || nic->route[i].via.family == nic->route[i].to.family);
    }
    look_at_file(nic->search, nic->servers);
    msh_nic_free(nic);
    return 0;
}
