/* moonshim-guest: one program for the parts of a utility VM. */
#include "agent/agent.h"
#include "agent/boot.h"
#include "agent/pause.h"
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "moonshim-guest " MSH_VERSION "\n"
    "usage: moonshim-guest boot --root-dir DIR --id ID --cgroup PATH [--die-with-parent[=PID]] [--log FILE]\n"
    "           make a utility VM out of namespaces and stay as its parent\n"
    "       moonshim-guest agent --dial unix:DIR [--scsi DIR] [--disk-within MS]\n"
    "           serve the host that listens on the sockets in DIR\n"
    "       moonshim-guest pause\n"
    "           hold the namespaces of a pod until TERM or INT\n"
    "       moonshim-guest syncfs PATH\n"
    "           write the file system of PATH to its disk\n"
    "       moonshim-guest --help | --version\n";

static int wrong(const char *what)
{
    fprintf(stderr, "moonshim-guest: %s (try --help)\n", what);
    return 2;
}

static int cmd_boot(int argc, char **argv)
{
    static const struct option options[] = {
        {"root-dir", required_argument, NULL, 'r'},        {"id", required_argument, NULL, 'i'},
        {"cgroup", required_argument, NULL, 'c'},          {"log", required_argument, NULL, 'l'},
        {"die-with-parent", optional_argument, NULL, 'd'}, {NULL, 0, NULL, 0}};
    msh_boot_options o = {0};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'r':
            o.run_dir = optarg;
            break;
        case 'i':
            o.id = optarg;
            break;
        case 'c':
            o.cgroup = optarg;
            break;
        case 'l':
            o.log = optarg;
            break;
        case 'd':
            o.die_with_parent = true;
            o.parent = optarg != NULL ? (pid_t)strtol(optarg, NULL, 10) : 0;
            break;
        default:
            return wrong("boot: unknown option");
        }
    }
    if (o.run_dir == NULL || o.id == NULL || o.cgroup == NULL || optind != argc)
        return wrong("boot needs --root-dir, --id and --cgroup");
    if (o.run_dir[0] != '/' || o.cgroup[0] == '/' || o.cgroup[0] == '\0' || strstr(o.cgroup, "..") != NULL)
        return wrong("boot: --root-dir is an absolute path, --cgroup a relative one");
    return msh_boot(&o);
}

static int cmd_agent(int argc, char **argv)
{
    static const struct option options[] = {{"dial", required_argument, NULL, 'd'},
                                            {"scsi", required_argument, NULL, 's'},
                                            {"disk-within", required_argument, NULL, 'w'},
                                            {NULL, 0, NULL, 0}};
    msh_agent_options o = {.scsi = "/run/host/scsi", .disk_within = 5000};
    const char *dial = "";
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'd':
            dial = optarg;
            break;
        case 's':
            o.scsi = optarg;
            break;
        case 'w':
            o.disk_within = (unsigned)strtoul(optarg, NULL, 10);
            break;
        default:
            return wrong("agent: unknown option");
        }
    }
    if (strncmp(dial, "unix:/", 6) != 0 || strlen(dial) > 200 || optind != argc)
        return wrong("agent needs --dial unix:<absolute folder>");
    o.sockets = dial + 5;
    return msh_agent_main(&o);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "--help";
    if (strcmp(verb, "--help") == 0 || strcmp(verb, "-h") == 0 || strcmp(verb, "--version") == 0) {
        fputs(strcmp(verb, "--version") == 0 ? "moonshim-guest " MSH_VERSION "\n" : usage, stdout);
        return 0;
    }
    if (strcmp(verb, "boot") == 0)
        return cmd_boot(argc - 1, argv + 1);
    if (strcmp(verb, "agent") == 0)
        return cmd_agent(argc - 1, argv + 1);
    if (strcmp(verb, "pause") == 0)
        return msh_pause();
    if (strcmp(verb, "syncfs") == 0 && argc == 3)
        return msh_syncfs(argv[2]);
    return wrong("unknown command");
}
