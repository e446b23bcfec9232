/* agent/pause.h - the process of a sandbox container: it holds the pod's namespaces and does nothing else. */
#ifndef MSH_AGENT_PAUSE_H
#define MSH_AGENT_PAUSE_H

/* Reaps what is left to it; ends with 0 on TERM or INT. */
int msh_pause(void);
/* Writes the file system of `path` to its disk. Gives an exit status, and says on stderr what was wrong. */
int msh_syncfs(const char *path);
#endif
