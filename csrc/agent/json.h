/* agent/json.h - reading JSON as the hosts of this protocol write it: keys in any letter case, what is absent or null
 * is zero, numbers are whole.
 *
 * Layer      agent; jansson.
 * Words      reader = an object and the first thing that was wrong in it. After a wrong field every read gives zero, so a
 *            parser reads all fields and looks at `bad` once.
 * Ownership  everything read is borrowed from the object. */
#ifndef MSH_AGENT_JSON_H
#define MSH_AGENT_JSON_H
#include "base/buf.h"
#include "base/err.h"
#include <jansson.h>

#define MSH_JSON_TEXT (16u << 20) /* largest document that is parsed */

/* Gives an object (json_decref), or NULL with err (invalid_argument). `what` names the document in the message. */
json_t *msh_json_parse(msh_slice text, const char *what, msh_err *err);

typedef struct msh_reader {
    const json_t *object; /* NULL reads as an empty object */
    const char *bad;      /* key of the first field of a wrong type or range; NULL when all is well */
} msh_reader;

msh_reader msh_read(const json_t *object);
/* The value whose key matches exactly, else in any letter case; NULL when absent or null. */
json_t *msh_json_get(const json_t *object, const char *key);
const char *msh_read_text(msh_reader *r, const char *key); /* "" when absent */
uint64_t msh_read_number(msh_reader *r, const char *key, uint64_t max);
int64_t msh_read_signed(msh_reader *r, const char *key, int64_t min, int64_t max);
bool msh_read_flag(msh_reader *r, const char *key);
json_t *msh_read_object(msh_reader *r, const char *key); /* NULL when absent */
json_t *msh_read_array(msh_reader *r, const char *key);  /* NULL when absent */
json_t *msh_read_texts(msh_reader *r, const char *key);  /* an array of strings; NULL when absent */
#endif
