local err = require "moonshim.err"
local oci = require "moonshim.oci"

local function spec(container, opts)
  container.args = container.args or { "sh" }
  opts = opts or {}
  opts.id = opts.id or "web"
  return oci.spec(container, opts)
end

local function refusal(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok, "was accepted")
  assert.is_true(err.is(e, "invalid_argument"), tostring(e))
  assert.is_nil(e.message:find("\n", 1, true), "more than one line")
  return e.message
end

local function has(list, value)
  for _, v in ipairs(list) do
    if v == value then return true end
  end
  return false
end

local function namespaces(s)
  local out = {}
  for _, ns in ipairs(s.linux.namespaces) do out[ns.type] = ns.path or true end
  return out
end

describe("the spec of a container", function()
  it("is by default what other runtimes give", function()
    local s = spec {}
    assert.same({ "sh" }, s.process.args)
    assert.equal("/", s.process.cwd)
    assert.same({ uid = 0, gid = 0 }, s.process.user)
    assert.is_true(s.process.noNewPrivileges)
    assert.equal(14, #s.process.capabilities.bounding)
    assert.is_nil(s.process.capabilities.inheritable)
    local at = {}
    for _, m in ipairs(s.mounts) do at[m.destination] = m end
    for _, path in ipairs { "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/sys/fs/cgroup" } do
      assert.truthy(at[path], path)
    end
    assert.is_true(has(at["/sys"].options, "ro"))
    assert.is_true(has(at["/sys/fs/cgroup"].options, "ro"))
    assert.same({ pid = true, network = true, ipc = true, uts = true, mount = true, cgroup = true }, namespaces(s))
    assert.is_true(has(s.linux.maskedPaths, "/proc/kcore"))
    assert.is_true(has(s.linux.readonlyPaths, "/proc/sys"))
    assert.is_nil(s.process.rlimits)
    assert.equal("web", s.hostname)
  end)

  it("has PATH and HOSTNAME, which the image and the user may replace", function()
    local s = spec { env = { "B=2", "PATH=/x" }, spec = { process = { env = { "A=1", "B=1" } } }, hostname = "h1" }
    assert.same({ "PATH=/x", "HOSTNAME=h1", "A=1", "B=2" }, s.process.env)
    assert.is_true(has(spec({}).process.env, "PATH=" .. oci.defaults.PATH))
  end)

  it("takes the environment as a map, in a fixed order", function()
    local s = spec { env = { Z = "1", A = "", N = 5 } }
    assert.same({ "A=", "N=5", "Z=1" }, table.move(s.process.env, 3, 5, 1, {}))
  end)

  it("sets TERM for a terminal only", function()
    assert.is_true(has(spec({ tty = true }).process.env, "TERM=xterm"))
    assert.is_false(has(spec({}).process.env, "TERM=xterm"))
  end)

  it("makes a host name of an id that is none", function()
    assert.equal("my-app.1", spec({}, { id = "my_app.1" }).hostname)
    assert.equal(63, #spec({}, { id = ("x"):rep(100) }).hostname)
  end)

  it("of a workload leaves the host name to the sandbox, but still tells it to the program", function()
    local s = spec({}, { kind = "workload", pod = "p1", hostname = "p1" })
    assert.is_nil(s.hostname)
    assert.is_true(has(s.process.env, "HOSTNAME=p1"))
    assert.equal("container", s.annotations["io.kubernetes.cri.container-type"])
    assert.equal("p1", s.annotations["io.kubernetes.cri.sandbox-id"])
  end)

  it("joins the namespaces it is told to", function()
    local s = spec({}, { kind = "workload", pod = "p1", namespaces = { network = "/proc/7/ns/net", time = "/proc/7/ns/time" },
      host_namespaces = { "ipc" } })
    local ns = namespaces(s)
    assert.equal("/proc/7/ns/net", ns.network)
    assert.equal("/proc/7/ns/time", ns.time)
    assert.is_nil(ns.ipc)
  end)

  it("lays overrides on the defaults: maps merge, lists replace", function()
    local s = spec { spec = {
      process = { capabilities = { bounding = { "CAP_KILL" } }, noNewPrivileges = false, oomScoreAdj = 100 },
      linux = { maskedPaths = {}, resources = { memory = { limit = 1 << 26 } } },
    } }
    assert.same({ "CAP_KILL" }, s.process.capabilities.bounding)
    assert.equal(14, #s.process.capabilities.effective)
    assert.is_false(s.process.noNewPrivileges)
    assert.is_nil(s.linux.maskedPaths)
    assert.equal(1 << 26, s.linux.resources.memory.limit)
    assert.equal(6, #s.linux.namespaces)
  end)

  it("does not share anything with what it was given", function()
    local container = { args = { "sh" }, mounts = { { source = "/a", destination = "/b", type = "bind", options = { "ro" } } } }
    local s = spec(container)
    s.process.args[1] = "x"
    s.mounts[#s.mounts].options[1] = "rw"
    assert.equal("sh", container.args[1])
    assert.equal("ro", container.mounts[1].options[1])
  end)

  it("lets a user's mount take the place of a default one", function()
    local s = spec { mounts = { { source = "tmpfs", destination = "/dev/shm", type = "tmpfs", options = { "size=1m" } } } }
    local n = 0
    for _, m in ipairs(s.mounts) do
      if m.destination == "/dev/shm" then n = n + 1 end
    end
    assert.equal(1, n)
  end)

  for _, case in ipairs {
    { "no name before =", { "=x" }, "=x" }, { "no =", { "A" }, "A" }, { "a NUL", { "A=\0" }, "NUL" }, { "a number", { 7 }, "text" },
    { "an empty name in a map", { [""] = "x" }, "name" },
  } do
    it("quotes an environment entry with " .. case[1] .. " (known bug 140)", function()
      local text = refusal(spec, { env = case[2] })
      assert.truthy(text:find("env", 1, true))
      assert.truthy(text:find(case[3], 1, true))
    end)
  end

  it("refuses what is longer than the kernel takes, by its name alone, and nothing shorter (known bug 92)", function()
    local longest = 131071
    assert.is_true(has(spec({ env = { "A=" .. ("x"):rep(longest - 2) } }).process.env, "A=" .. ("x"):rep(longest - 2)))
    local text = refusal(spec, { env = { "SECRET=" .. ("z"):rep(longest - 6) } })
    assert.truthy(text:find("SECRET", 1, true) and text:find("131072 bytes", 1, true), text)
    assert.is_nil(text:find("zz", 1, true))
    text = refusal(spec, { args = { "a", ("x"):rep(longest + 1) } })
    assert.truthy(text:find("args[2]", 1, true) and text:find("131072 bytes", 1, true), text)
    spec { args = { "a", ("x"):rep(longest) } }
  end)

  it("accepts an empty value", function() assert.is_true(has(spec({ env = { "A=" } }).process.env, "A=")) end)

  for name, container in pairs {
    ["no arguments"] = { args = {} }, ["an empty program"] = { args = { "" } }, ["a relative cwd"] = { cwd = "tmp" },
      ["an empty cwd"] = { cwd = "" },
    ["a NUL in an argument"] = { args = { "a\0b" } }, ["an argument that is no text"] = { args = { "a", 7 } },
    ["a host name with a newline"] = { hostname = "a\nb" }, ["a host name with 300 bytes"] = { hostname = ("x"):rep(300) },
    ["a host name with a space"] = { hostname = "a b" }, ["a host name with an umlaut"] = { hostname = "b\u{fc}" },
    ["a user with a space"] = { user = "a b" }, ["a user with two colons"] = { user = "a:b:c" }, ["a huge uid"] = { user = "99999999999" },
    ["an empty group"] = { user = "a:" }, ["an override that is a list"] = { spec = { 1, 2 } },
    ["a process that is text"] = { spec = { process = "sh" } }, ["a linux that is a number"] = { spec = { linux = 7 } },
    ["mounts that are text"] = { spec = { mounts = "x" } }, ["a mount without destination"] = { mounts = { { source = "/a" } } },
    ["a relative destination"] = { mounts = { { source = "/a", destination = "b" } } },
    ["an unknown namespace"] = { spec = { linux = { namespaces = { { type = "moon" } } } } },
    ["a capability that is none"] = { spec = { process = { capabilities = { bounding = { "KILL" } } } } },
    ["a function"] = { spec = { process = { x = print } } },
  } do
    it("is refused with " .. name .. " (known bugs 131, 139, 141)", function() refusal(spec, container) end)
  end

  it("is refused for ids that are no names", function()
    for _, id in ipairs { "", "..", "a/b", "a b", ("x"):rep(300), "\n" } do refusal(spec, {}, { id = id }) end
  end)
end)

describe("a user", function()
  it("with both numbers is settled at once, anything else is for the guest", function()
    assert.same({ uid = 1000, gid = 100 }, oci.parse_user("1000:100", "user"))
    assert.same({ uid = 0, gid = 0 }, oci.parse_user(nil, "user"))
    assert.equal("1000", oci.parse_user(1000, "user").username)
    assert.equal("nobody:daemon", oci.parse_user("nobody:daemon", "user").username)
  end)
end)

describe("a spec from elsewhere", function()
  local null = io.stdout -- any userdata stands for JSON's null

  local function minimal()
    return { ociVersion = "1.0.2", process = { args = { "sh" }, cwd = "/" }, root = { path = "rootfs" }, linux = {} }
  end

  it("is accepted when it has the least that is legal", function() assert.truthy(oci.validate(minimal())) end)

  local cases = {
    { "process", "process" }, { "process.args", "args" }, { "process.cwd", "cwd" }, { "root", "root" }, { "linux", "linux" },
  }
  for _, case in ipairs(cases) do
    local path, last = table.unpack(case)
    local parent = path:match "^(.*)%." or nil
    for name, value in pairs { missing = "nil", null = null, text = "x", number = 7, ["empty list for args"] = {} } do
      local wrong_kind = not (path == "process.cwd" and name == "text") and not (name == "empty list for args" and path ~= "process.args")
      if wrong_kind then
        it(("names %s when it is %s"):format(path, name), function()
          local s = minimal()
          local at = parent and s[parent] or s
          if value == "nil" then at[last] = nil else at[last] = value end
          local text = refusal(oci.validate, s)
          assert.truthy(text:find(path, 1, true), text)
        end)
      end
    end
  end

  for _, optional in ipairs { "mounts", "hooks", "hostname", "annotations", "windows" } do
    it("may have no " .. optional .. ", or null", function()
      local s = minimal()
      s[optional] = null
      assert.truthy(oci.validate(s))
    end)
    it("names " .. optional .. " of the wrong type", function()
      local s = minimal()
      s[optional] = 7
      assert.truthy(refusal(oci.validate, s):find(optional, 1, true))
    end)
  end

  it("is refused when it is no document at all", function()
    for _, v in ipairs { "text", 7, true, { 1, 2, 3 } } do refusal(oci.validate, v) end
    refusal(oci.validate, nil)
  end)

  it("names the entry of a bad mount", function()
    local s = minimal()
    s.mounts = { { destination = "/a" }, { destination = "" } }
    assert.truthy(refusal(oci.validate, s):find("mounts[2].destination", 1, true))
  end)
end)

describe("the process of an exec", function()
  local base = { process = { args = { "init" }, cwd = "/srv", env = { "A=1", "B=1" }, user = { uid = 5, gid = 5 }, terminal = true,
    capabilities = { bounding = { "CAP_KILL" } } } }

  it("is the container's own but for what was asked", function()
    local p = oci.exec_process(base, { args = { "ls" }, env = { B = "2" } })
    assert.same({ "ls" }, p.args)
    assert.same({ "A=1", "B=2" }, p.env)
    assert.equal("/srv", p.cwd)
    assert.same({ uid = 5, gid = 5 }, p.user)
    assert.is_false(p.terminal)
    assert.same({ "CAP_KILL" }, p.capabilities.bounding)
    assert.same({ "init" }, base.process.args)
  end)

  it("needs a program", function()
    refusal(oci.exec_process, base, { args = {} })
    refusal(oci.exec_process, base, {})
    refusal(oci.exec_process, base, { args = { "ls" }, cwd = "x" })
    refusal(oci.exec_process, base, { args = { "ls" }, env = { "oops" } })
  end)
end)
