#include "agent/json.h"
#include <string.h>
#include <strings.h>

json_t *msh_json_parse(msh_slice text, const char *what, msh_err *err)
{
    json_error_t e;
    if (text.n > MSH_JSON_TEXT) {
        msh_fail(err, MSH_INVALID_ARGUMENT, "%s is larger than %u bytes", what, MSH_JSON_TEXT);
        return NULL;
    }
    json_t *o = json_loadb(text.p == NULL ? "" : text.p, text.n, 0, &e);
    if (o == NULL) {
        msh_fail(err, MSH_INVALID_ARGUMENT, "%s is not JSON: %s (line %d, column %d)", what, e.text, e.line,
                 e.column);
        return NULL;
    }
    if (!json_is_object(o)) {
        json_decref(o);
        msh_fail(err, MSH_INVALID_ARGUMENT, "%s is not a JSON object", what);
        return NULL;
    }
    return o;
}

msh_reader msh_read(const json_t *object)
{
    return (msh_reader){.object = object};
}

json_t *msh_json_get(const json_t *object, const char *key)
{
    json_t *v = json_object_get(object, key);
    if (v == NULL) {
        const char *k;
        json_t *each;
        json_object_foreach((json_t *)object, k, each)
        {
            if (strcasecmp(k, key) == 0)
                v = each; /* the last one wins */
        }
    }
    return json_is_null(v) ? NULL : v;
}

static json_t *typed(msh_reader *r, const char *key, json_type type)
{
    if (r->bad != NULL || r->object == NULL)
        return NULL;
    json_t *v = msh_json_get(r->object, key);
    if (v != NULL && json_typeof(v) != type) {
        r->bad = key;
        return NULL;
    }
    return v;
}

const char *msh_read_text(msh_reader *r, const char *key)
{
    json_t *v = typed(r, key, JSON_STRING);
    return v == NULL ? "" : json_string_value(v);
}

int64_t msh_read_signed(msh_reader *r, const char *key, int64_t min, int64_t max)
{
    json_t *v = typed(r, key, JSON_INTEGER);
    if (v == NULL)
        return 0;
    json_int_t n = json_integer_value(v);
    if (n < min || n > max) {
        r->bad = key;
        return 0;
    }
    return n;
}

uint64_t msh_read_number(msh_reader *r, const char *key, uint64_t max)
{
    return (uint64_t)msh_read_signed(r, key, 0, max > INT64_MAX ? INT64_MAX : (int64_t)max);
}

bool msh_read_flag(msh_reader *r, const char *key)
{
    if (r->bad != NULL || r->object == NULL)
        return false;
    json_t *v = msh_json_get(r->object, key);
    if (v != NULL && !json_is_boolean(v))
        r->bad = key;
    return json_is_true(v);
}

json_t *msh_read_object(msh_reader *r, const char *key)
{
    return typed(r, key, JSON_OBJECT);
}

json_t *msh_read_array(msh_reader *r, const char *key)
{
    return typed(r, key, JSON_ARRAY);
}

json_t *msh_read_texts(msh_reader *r, const char *key)
{
    json_t *a = typed(r, key, JSON_ARRAY);
    size_t i;
    json_t *v;
    json_array_foreach(a, i, v)
    {
        if (!json_is_string(v)) {
            r->bad = key;
            return NULL;
        }
    }
    return a;
}
