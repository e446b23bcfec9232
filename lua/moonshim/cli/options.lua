---The command line of `moonshim`: what may be written, and the help texts. Pure; see init.lua for what is done with it.
local argparse = require "argparse"
local err = require "moonshim.err"

local options = {}

---@class moonshim.cli.Options
---@field command string                 run, plan, gc or version
---@field file string?                   a pod file
---@field rootfs string?                 instead of a pod file: a folder or an image
---@field layers string[]                base first, top last
---@field scratch { size: string?, path: string? }?
---@field args string[]                  what stands behind `--`
---@field stdin boolean?
---@field tty boolean?
---@field env table<string, string>
---@field mounts table[]                 { type, source, destination, options }
---@field devices string[]               "/dev/NAME[:PATH][:rwm]"
---@field read_only boolean?
---@field network string?
---@field dns string[]
---@field dns_search string[]
---@field annotations table<string, string>?   of the pod; of a pod file's, they take the place
---@field policy string?
---@field resources table?               limits, as a pod file's `resources`
---@field goal string?
---@field json boolean?

local function refuse(fmt, ...) return nil, fmt:format(...) end

---"K=V", or "K" for the caller's own value. A name must not be empty; a value may be.
local function env_entry(text)
  local name, value = text:match("^([^=]*)=(.*)$")
  name = name or text
  if name == "" then return refuse("--env %q has no name before the '='; write NAME=VALUE or NAME", text) end
  return { name = name, value = value or os.getenv(name) }
end

---"KEY=VALUE"; a value may be empty, and may have more '='.
local function annotation_entry(text)
  local name, value = text:match("^([^=]+)=(.*)$")
  if not name then return refuse("--annotation %q is not KEY=VALUE", text) end
  if name:find("%c") or not utf8.len(name) then return refuse("--annotation %q: the key has a character that no key has", text) end
  return { name = name, value = value }
end

local MOUNT_KEYS = {
  type = "type", source = "source", src = "source", destination = "destination", dst = "destination", target = "destination",
}
local MOUNT_FLAGS = { ro = "ro", readonly = "ro", rw = "rw" }
local MOUNT_TYPES = { bind = true, tmpfs = true, ["virtual-disk"] = true, ["physical-disk"] = true }

---"type=bind,source=DIR,destination=DIR,ro" -> a mount as a pod file writes it.
local function mount_entry(text)
  local mount = { type = "bind", options = {} }
  for part in (text .. ","):gmatch("(.-),") do
    local key, value = part:match("^([^=]+)=(.*)$")
    if key and MOUNT_KEYS[key] and value ~= "" then
      mount[MOUNT_KEYS[key]] = value
    elseif MOUNT_FLAGS[part] then
      table.insert(mount.options, MOUNT_FLAGS[part])
    else
      return refuse("--mount %q: cannot read %q; write type=bind,source=PATH,destination=PATH and perhaps ,ro", text, part)
    end
  end
  if not MOUNT_TYPES[mount.type] then
    return refuse("--mount %q: type %q is not known; bind, tmpfs, virtual-disk and physical-disk are", text, mount.type)
  end
  local place = mount.destination and mount.destination:gsub("^blockdev://", "")
  if not place or place:sub(1, 1) ~= "/" then
    return refuse("--mount %q: needs destination=, an absolute path in the container", text)
  end
  if mount.type ~= "tmpfs" and not mount.source then
    return refuse("--mount %q: a %s mount needs source=", text, mount.type)
  end
  return mount
end

---"64M" is the size of a fresh disk; anything else is the path of an image.
local function scratch_entry(text)
  if text:match("^%d+[KMGT]?$") then return { size = text } end
  return { path = text }
end

local function add_annotation(command)
  command:option("--annotation", "An annotation of the pod; the pod file's of this KEY gives way. May be repeated.")
    :argname("KEY=VALUE"):count("*"):target("annotations"):convert(annotation_entry)
end

local function add_run(parser)
  local run = parser:command("run", "Run a pod until its containers end."):add_help(false)
  run:usage("usage: moonshim run [OPTIONS] FILE\n"
    .. "       moonshim run [OPTIONS] --rootfs DIR|IMAGE -- CMD [ARG...]")
  run:help_description_margin(32)
  run:argument("file", "A pod file: a Lua script that returns moonshim.pod { ... }."):args("?")
  run:option("--rootfs", "A folder (used in place, writable) or an image (read-only without --scratch)."):argname("DIR|IMAGE")
  run:option("--layer", "An image (ext4, erofs, a fixed VHD of one), from the base to the top; may be repeated.")
    :argname("IMAGE"):count("*"):target("layers")
  run:option("--scratch", "What is written goes to a fresh disk of SIZE (64M, 2G), or to this image."):argname("SIZE|IMAGE")
    :convert(scratch_entry)
  run:option("--mount", "type=TYPE,source=PATH,destination=PATH[,ro]; may be repeated. TYPE is bind (a folder or a file), tmpfs,"
    .. " virtual-disk (an image) or physical-disk (a block device); with destination=blockdev:///dev/NAME a disk is not"
    .. " mounted, its device appears there."):argname("SPEC"):count("*"):target("mounts"):convert(mount_entry)
  run:option("--device", "A device of the host: /dev/NAME[:PATH in the container][:rwm]; may be repeated."):argname("DEVICE")
    :count("*"):target("devices")
  run:option("--env", "An environment variable: NAME=VALUE, or NAME for the caller's value; may be repeated."):argname("NAME[=VALUE]")
    :count("*"):convert(env_entry)
  run:option("--cwd", "The working directory in the container."):argname("DIR")
  run:option("--user", "NAME, UID, NAME:GROUP or UID:GID, looked up in the container's files."):argname("USER")
  run:option("--name", "The name of the pod."):argname("NAME")
  run:option("--hostname", "The host name in the container."):argname("NAME")
  run:option("--network", "none (the loopback alone), bridge, or the path of a network namespace."):argname("none|bridge|PATH")
  run:option("--dns", "A name server, instead of the host's; may be repeated."):argname("ADDRESS"):count("*")
  run:option("--dns-search", "A domain in which names are looked up; may be repeated."):argname("DOMAIN"):count("*"):target("dns_search")
  add_annotation(run)
  run:option("--policy", "An operator's script of decisions; see examples/teardown."):argname("FILE")
  run:option("--memory", "At most so much memory: 64M, 2G."):argname("SIZE")
  run:option("--memory-swap", "At most so much memory and swap together; unlimited when left out."):argname("SIZE")
  run:option("--cpus", "At most so many CPUs' worth of time: 0.5, 2."):argname("N")
  run:option("--cpu-shares", "Weight against other containers when CPUs are short (1024)."):argname("N")
  run:option("--cpuset-cpus", "Only these CPUs: 0-2,4."):argname("LIST")
  run:option("--pids-limit", "At most so many processes and threads."):argname("N")
  run:flag("-i --stdin", "Pass standard input to the container.")
  run:flag("-t --tty", "Give the command a terminal; with -i it is yours: keys, Ctrl-C too, and the size of the window go to it.")
  run:flag("--read-only", "Make the root file system read-only."):target("read_only")
  run:flag("--timeline", "At the end, print what happened and when, to standard error.")
  run:flag("-h --help", "Show this text.")
  run:epilog([[
Prints what the containers print, each line behind the container's name when there are several. INT, TERM and HUP are
forwarded to the command; a pod from a file is stopped by them. A second INT kills, a third ends the VM.

With -t the command has a terminal, and all that it prints comes on standard output. -it is for working in it: your
terminal passes every key on until the command ends, and has its modes back then. -t alone passes no keys, so Ctrl-C is
the signal INT, as without -t. When your terminal goes away the command is stopped. TERM is "xterm" unless --env TERM=NAME
(or --env TERM, for yours) says otherwise.

Exit status: the command's; 128 + n when signal n ended it or stopped the pod; 127 command not found; 126 command not
executable; 125 when moonshim itself failed, with one line on standard error. A pod file's pod gives the first status
other than 0, in the order of the containers' names.]])
  return run
end

local function add_plan(parser)
  local plan = parser:command("plan", "Print a pod's teardown plan; runs nothing."):add_help(false)
  plan:usage("usage: moonshim plan [OPTIONS] FILE")
  plan:help_description_margin(32)
  plan:argument("file", "A pod file.")
  plan:option("--goal", "What the plan is for: stop, delete or roll_back."):argname("GOAL")
    :choices { "stop", "delete", "roll_back" }:default("stop")
  add_annotation(plan)
  plan:option("--policy", "An operator's script, instead of the pod file's."):argname("FILE")
  plan:flag("--json", "Print JSON instead of a table.")
  plan:flag("-h --help", "Show this text.")
  return plan
end

local function add_gc(parser)
  local gc = parser:command("gc", "Clean up after runs that were killed."):add_help(false)
  gc:usage("usage: moonshim gc")
  gc:flag("-h --help", "Show this text.")
  gc:epilog([[
Each run keeps a journal of what it holds, in /run/moonshim (or $MOONSHIM_RUN). For every journal whose writer is gone
this derives the plan that releases the rest, runs it, and says what it did. Running pods are left alone; a run that has
just been killed is given the moment that its end takes.]])
  return gc
end

local function new_parser()
  local parser = argparse("moonshim", "Pods of Linux containers in utility VMs, every lifecycle decision in Lua."):add_help(false)
  parser:usage("usage: moonshim COMMAND [OPTIONS]")
  parser:command_target("command")
  parser:require_command(false)
  parser:help_description_margin(32)
  parser:flag("-h --help", "Show this text."):target("help_top")
  parser:flag("--version", "Show the version."):target("version_flag")
  local commands = {
    run = add_run(parser),
    plan = add_plan(parser),
    gc = add_gc(parser),
    version = parser:command("version", "Show the version."):add_help(false):usage("usage: moonshim version"),
  }
  return parser, commands
end

---The help text of a command, or of moonshim itself.
---@param command string?
---@return string
function options.help(command)
  local parser, commands = new_parser()
  return (commands[command] or parser):get_help()
end

---@return string[] before, string[]? behind  what stands behind the first `--`
local function split(argv)
  local before, behind = {}, nil
  for _, word in ipairs(argv) do
    if behind then
      table.insert(behind, word)
    elseif word == "--" then
      behind = {}
    else
      table.insert(before, word)
    end
  end
  return before, behind
end

-- Option by field of `resources`.
local LIMITS = {
  memory = "memory", memory_swap = "memory_swap", cpus = "cpus", cpu_shares = "cpu_shares", cpuset_cpus = "cpuset", pids_limit = "pids",
}

---@param found moonshim.cli.Options
local function gather_limits(found)
  local out = {}
  for option, field in pairs(LIMITS) do
    if found[option] and found.file then
      err.raise("invalid_argument", "--%s goes with --rootfs; write resources = { %s = } into the pod file", option:gsub("_", "-"), field)
    end
    out[field], found[option] = found[option], nil
  end
  found.resources = next(out) and out or nil
end

---Their values are checked here, so that it is said where a wrong one was written.
---@param found moonshim.cli.Options
local function gather_annotations(found)
  local map = {}
  for _, entry in ipairs(found.annotations) do map[entry.name] = entry.value end
  found.annotations = next(map) and map or nil
  if not found.annotations then return end
  require("moonshim.pod_spec.annotations").of_pod(map, require("moonshim.pod_spec.place").new({}, { "--annotation" }))
end

local function check_run(found)
  local from_options = found.rootfs or #found.layers > 0
  if found.file and from_options then
    err.raise("invalid_argument", "run takes a pod file or --rootfs, not both; leave one out")
  elseif not found.file and not from_options then
    err.raise("invalid_argument", "run needs a pod file, or --rootfs DIR|IMAGE -- CMD")
  elseif found.file and found.args then
    err.raise("invalid_argument", "a command behind -- goes with --rootfs; the pod file names its own")
  elseif from_options and (not found.args or #found.args == 0) then
    err.raise("invalid_argument", "what should run is missing: end with -- CMD [ARG...]")
  end
  if found.file then
    for name, option in pairs { scratch = "--scratch", cwd = "--cwd", user = "--user", hostname = "--hostname", name = "--name",
      network = "--network" } do
      if found[name] then err.raise("invalid_argument", "%s goes with --rootfs; write it into the pod file", option) end
    end
    local given = { mounts = "--mount", devices = "--device", env = "--env", read_only = "--read-only", dns = "--dns",
      dns_search = "--dns-search" }
    for name, option in pairs(given) do
      local value = found[name]
      if value and (type(value) ~= "table" or #value > 0) then
        err.raise("invalid_argument", "%s goes with --rootfs; write it into the pod file", option)
      end
    end
  end
end

---Reads a command line. Raises `invalid_argument` with a line that says what to write instead.
---@param argv string[] without the program's name
---@return moonshim.cli.Options
function options.parse(argv)
  local before, behind = split(argv)
  local command
  for _, word in ipairs(before) do
    if word == "-h" or word == "--help" then return { command = "help", topic = command } end
    if not command and word:sub(1, 1) ~= "-" then command = word end
  end
  local ok, found = new_parser():pparse(before)
  if not ok then
    local text = found:gsub("%?$", ""):gsub("%s*\nDid", "; did")
    local known = command and text:find("^unknown command") == nil
    err.raise("invalid_argument", "%s; see moonshim %s--help", text, known and command .. " " or "")
  end
  if found.version_flag then return { command = "version" } end
  if not found.command then return { command = "help", usage_error = true } end
  if behind and found.command ~= "run" then err.raise("invalid_argument", "%s takes no command behind --", found.command) end
  found.args = behind
  if found.annotations then gather_annotations(found) end
  if found.command == "run" then
    check_run(found)
    gather_limits(found)
    local env = {}
    for _, entry in ipairs(found.env) do env[entry.name] = entry.value end
    found.env = env
  end
  return found
end

return options
