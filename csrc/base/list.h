/* base/list.h - intrusive doubly linked list. A node lives inside its owner; a list head is a node. */
#ifndef MSH_BASE_LIST_H
#define MSH_BASE_LIST_H
#include <stdbool.h>
#include <stddef.h>

typedef struct msh_node {
    struct msh_node *prev, *next;
} msh_node;

#define MSH_LIST_OF(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

static inline void msh_list_init(msh_node *head)
{
    head->prev = head->next = head;
}
static inline bool msh_list_empty(const msh_node *head)
{
    return head->next == head;
}
static inline void msh_list_push(msh_node *head, msh_node *n) /* at the end */
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}
/* Safe on a node that is not in any list (both links NULL or to itself). */
static inline void msh_list_remove(msh_node *n)
{
    if (n->next != NULL) {
        n->prev->next = n->next;
        n->next->prev = n->prev;
    }
    n->prev = n->next = NULL;
}
static inline msh_node *msh_list_shift(msh_node *head) /* NULL when empty */
{
    msh_node *n = head->next;
    if (n == head)
        return NULL;
    head->next = n->next; /* said of the head itself, so that an analyzer sees that it forgets n */
    n->next->prev = head;
    n->prev = n->next = NULL;
    return n;
}
#endif
