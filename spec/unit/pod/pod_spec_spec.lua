local err = require "moonshim.err"
local pod_spec = require "moonshim.pod_spec"

local function pod(change)
  local spec = { name = "hello", containers = { web = { rootfs = "root", args = { "sh" } } } }
  if change then change(spec, spec.containers.web) end
  return spec
end

local function check(spec) return pod_spec.check(spec, { base = "/base" }) end

local function refusal(spec)
  local ok, e = pcall(check, spec)
  assert.is_false(ok, "expected a refusal")
  assert.is_true(err.is(e), tostring(e))
  return e
end

describe("a pod spec", function()
  it("is completed: absolute paths, defaults, an order of start", function()
    local spec = check(pod())
    assert.equal("local", spec.host)
    assert.is_true(spec.sandbox)
    assert.same({ "web" }, spec.order)
    assert.equal("/base/root", spec.containers.web.rootfs)
    assert.same({}, spec.containers.web.env)
    assert.is_false(spec.containers.web.read_only)
  end)

  it("gives a container a terminal by tty, or by what its OCI spec says", function()
    assert.is_false(check(pod()).containers.web.tty)
    assert.is_true(check(pod(function(_, c) c.tty = true end)).containers.web.tty)
    assert.is_true(check(pod(function(_, c) c.spec = { process = { terminal = true } } end)).containers.web.tty)
    assert.is_false(check(pod(function(_, c) c.tty, c.spec = false, { process = { terminal = true } } end)).containers.web.tty)
    assert.is_truthy(refusal(pod(function(_, c) c.tty = "yes" end)).message:find("containers.web.tty", 1, true))
    assert.is_truthy(refusal(pod(function(_, c) c.tyt = true end)).message:find("tty", 1, true))
  end)

  it("is not checked a second time", function()
    local spec = check(pod())
    assert.equal(spec, check(spec))
    assert.is_true(pod_spec.checked(spec))
  end)

  it("shares nothing with what the caller wrote", function()
    local input = pod(function(_, c) c.spec = { linux = { resources = {} } } end)
    local spec = check(input)
    input.containers.web.spec.linux.resources.memory = 1
    assert.is_nil(spec.containers.web.spec.linux.resources.memory)
  end)

  it("keeps the order of containers that stand in a list", function()
    local spec = check { name = "p", containers = {
      { name = "zeta", rootfs = "a", args = { "x" } }, { name = "alpha", rootfs = "a", args = { "x" } } } }
    assert.same({ "zeta", "alpha" }, spec.order)
  end)

  it("puts containers that stand in a map in alphabetical order", function()
    local spec = check { name = "p", containers = { zeta = { rootfs = "a", args = { "x" } }, alpha = { rootfs = "a", args = { "x" } } } }
    assert.same({ "alpha", "zeta" }, spec.order)
  end)

  it("turns an environment map into a sorted list", function()
    local spec = check(pod(function(_, c) c.env = { B = "2", A = 1 } end))
    assert.same({ "A=1", "B=2" }, spec.containers.web.env)
  end)

  it("writes integers on the command line as they are meant", function()
    assert.same({ "sleep", "600" }, check(pod(function(_, c) c.args = { "sleep", 600 } end)).containers.web.args)
  end)

  it("resolves relative sources of bind mounts and adds rbind", function()
    local spec = check(pod(function(_, c) c.mounts = { { source = "../data", destination = "/data", options = { "ro" } } } end))
    assert.same({ { source = "/data", destination = "/data", type = "bind", options = { "rbind", "ro" } } }, spec.containers.web.mounts)
  end)

  it("leaves guest sources and other file systems alone", function()
    local mounts = check(pod(function(_, c)
      c.mounts = { { source = "sandbox://x", destination = "/x" }, { destination = "/tmp", type = "tmpfs" } }
    end)).containers.web.mounts
    assert.equal("sandbox://x", mounts[1].source)
    assert.same({ source = "tmpfs", destination = "/tmp", type = "tmpfs", options = {} }, mounts[2])
  end)

  it("reads devices, short and long", function()
    local devices = check(pod(function(_, c)
      c.devices = { "/dev/fuse", "/dev/sda:/dev/xvda", "/dev/sda:r", "/dev/sdb:/dev/y/../x:mr",
        { path = "nodes/a:b", destination = "/dev/c" } }
    end)).containers.web.devices
    assert.same({
      { path = "/dev/fuse", destination = "/dev/fuse", access = "rwm" },
      { path = "/dev/sda", destination = "/dev/xvda", access = "rwm" },
      { path = "/dev/sda", destination = "/dev/sda", access = "r" },
      { path = "/dev/sdb", destination = "/dev/x", access = "rm" },
      { path = "/base/nodes/a:b", destination = "/dev/c", access = "rwm" },
    }, devices)
    assert.same({}, check(pod()).containers.web.devices)
  end)

  for text, bytes in pairs { ["64M"] = 64 << 20, ["1G"] = 1 << 30, ["2048K"] = 2 << 20, ["5mb"] = 5 << 20, ["1GiB"] = 1 << 30 } do
    it("reads the size " .. text, function()
      local spec = check(pod(function(_, c) c.rootfs, c.layers, c.scratch = nil, { "a.ext4" }, { size = text } end))
      assert.equal(bytes, spec.containers.web.scratch.size)
    end)
  end
end)

describe("a pod spec is refused", function()
  local cases = {
    { "an unknown field of the pod", "invalid_argument", 'contaners: unknown field (did you mean "containers"?)',
      function(s) s.contaners = {} end },
    { "an unknown field of a container", "invalid_argument", 'containers.web.rootsf: unknown field (did you mean "rootfs"?)',
      function(_, c) c.rootsf = "x" end },
    { "a missing name", "invalid_argument", "name is missing", function(s) s.name = nil end },
    { "no containers", "invalid_argument", "containers is missing", function(s) s.containers = nil end },
    { "an empty set of containers", "invalid_argument", "at least one container", function(s) s.containers = {} end },
    { "an unknown host", "invalid_argument", 'there is no host "locl" (did you mean "local"?)', function(s) s.host = "locl" end },
    { "an id with a slash", "invalid_argument", 'must not contain "/"', function(s) s.name = "a/b" end },
    { "an id with two dots", "invalid_argument", 'must not contain ".."', function(s) s.name = "a..b" end },
    { "the id ..", "invalid_argument", 'must not contain ".."', function(s) s.name = ".." end },
    { "an id with a space", "invalid_argument", "must not contain spaces", function(s) s.name = "a b" end },
    { "an empty id", "invalid_argument", "must not be empty", function(s) s.name = "" end },
    { "an id of 300 bytes", "invalid_argument", "at most 76 bytes, this one has 300", function(s) s.name = ("x"):rep(300) end },
    { "an id of 77 bytes", "invalid_argument", "at most 76 bytes", function(s) s.name = ("x"):rep(77) end },
    { "an id that starts with a dash", "invalid_argument", "starts with a letter", function(s) s.name = "-x" end },
    { "an id that is no text", "invalid_argument", "expected string, got number", function(s) s.name = 7 end },
    { "a container id with a slash", "invalid_argument", 'must not contain "/"',
      function(s) s.containers["a/b"] = { rootfs = "r", args = { "x" } } end },
    { "two containers of one name", "already_exists", 'two containers called "a"',
      function(s) s.containers = { { name = "a", rootfs = "r", args = { "x" } }, { name = "a", rootfs = "r", args = { "x" } } } end },
    { "a container with the pod's name", "already_exists", "taken by its sandbox",
      function(s) s.containers.hello = { rootfs = "r", args = { "x" } } end },
    { "a container in a list without a name", "invalid_argument", "name is missing",
      function(s) s.containers = { { rootfs = "r", args = { "x" } } } end },
    { "rootfs together with layers", "invalid_argument", "either rootfs", function(_, c) c.layers = { "a" } end },
    { "neither rootfs nor layers", "invalid_argument", "either rootfs", function(_, c) c.rootfs = nil end },
    { "no args", "invalid_argument", "args is missing", function(_, c) c.args = nil end },
    { "empty args", "invalid_argument", "must not be empty", function(_, c) c.args = {} end },
    { "an empty program name", "invalid_argument", "must not be empty", function(_, c) c.args = { "" } end },
    { "a NUL byte in args", "invalid_argument", "containers.web.args[2]: must not contain a NUL",
      function(_, c) c.args = { "a", "b\0c" } end },
    { "a function in args", "invalid_argument", "expected string, got function", function(_, c) c.args = { print } end },
    { "a hole in args", "invalid_argument", "expected a list", function(_, c) c.args = { "a", nil, "c", x = 1 } end },
    { "args that are one string", "invalid_argument", "expected table, got string", function(_, c) c.args = "sh -c x" end },
    { "a fraction in args", "invalid_argument", "expected string, got number", function(_, c) c.args = { "sleep", 1.5 } end },
    { "env without =", "invalid_argument", 'must look like NAME=value', function(_, c) c.env = { "PATH" } end },
    { "an env name with =", "invalid_argument", "no name of an environment variable", function(_, c) c.env = { ["A=B"] = "x" } end },
    { "a relative cwd", "invalid_argument", "must be an absolute path", function(_, c) c.cwd = "tmp" end },
    { "a user with spaces", "invalid_argument", "is no user", function(_, c) c.user = "a b" end },
    { "a user with two colons", "invalid_argument", "is no user", function(_, c) c.user = "1:2:3" end },
    { "a bad host name", "invalid_argument", "is no host name", function(_, c) c.hostname = "a_b!" end },
    { "a mount without destination", "invalid_argument", "needs a destination", function(_, c) c.mounts = { { source = "/x" } } end },
    { "a bind mount without source", "invalid_argument", "needs a source", function(_, c) c.mounts = { { destination = "/x" } } end },
    { "a mount with an unknown field", "invalid_argument", 'containers.web.mounts[1].dest: unknown field',
      function(_, c) c.mounts = { { dest = "/x" } } end },
    { "a device without a path", "invalid_argument", "containers.web.devices[1]: a device needs a path",
      function(_, c) c.devices = { {} } end },
    { "a device with an unknown field", "invalid_argument", 'devices[1].acess: unknown field (did you mean "access"?)',
      function(_, c) c.devices = { { path = "/dev/x", acess = "r" } } end },
    { "an access that is none", "invalid_argument", '"rx" is no access',
      function(_, c) c.devices = { { path = "/dev/x", access = "rx" } } end },
    { "an access with a letter twice", "invalid_argument", '"rr" is no access', function(_, c) c.devices = { "/dev/x:rr" } end },
    { "a device with too many parts", "invalid_argument", "is no device; write",
      function(_, c) c.devices = { "/dev/x:/dev/y:/dev/z" } end },
    { "a device with an empty part", "invalid_argument", "is no device; write", function(_, c) c.devices = { "/dev/x:" } end },
    { "a device at a relative place", "invalid_argument", "must be an absolute path", function(_, c) c.devices = { "/dev/x:dev/y" } end },
    { "a device at the root", "invalid_argument", "is the root folder", function(_, c) c.devices = { "/dev/x:/dev/.." } end },
    { "two devices at one place", "invalid_argument", "devices[2]: /dev/x is taken by devices[1]",
      function(_, c) c.devices = { "/dev/x", "/dev/y:/dev/x" } end },
    { "a scratch without size or path", "invalid_argument", "either a size", function(_, c) c.scratch = {} end },
    { "a scratch with both", "invalid_argument", "either a size", function(_, c) c.scratch = { size = "64M", path = "x" } end },
    { "a size without a number", "invalid_argument", "is no size", function(_, c) c.scratch = { size = "big" } end },
    { "a tiny size", "invalid_argument", "at least 1M", function(_, c) c.scratch = { size = 4096 } end },
    { "a partition below 0", "invalid_argument", "partition number",
      function(_, c) c.rootfs, c.layers = nil, { { path = "a", partition = -1 } } end },
    { "read_only that is no boolean", "invalid_argument", "expected boolean, got number", function(_, c) c.read_only = 1 end },
    { "NaN in the spec", "invalid_argument", "not a finite number", function(_, c) c.spec = { linux = { x = 0 / 0 } } end },
    { "a function in the spec", "invalid_argument", "expected data, got a function", function(_, c) c.spec = { hooks = print } end },
    { "a spec that contains itself", "invalid_argument", "nested too deeply", function(_, c) c.spec = {}; c.spec.spec = c.spec end },
    { "several containers without a sandbox", "invalid_argument", "exactly one container",
      function(s) s.sandbox = false; s.containers.b = { rootfs = "r", args = { "x" } } end },
  }
  for _, case in ipairs(cases) do
    it("for " .. case[1], function()
      local e = refusal(pod(case[4]))
      assert.equal(case[2], e.code)
      assert.is_truthy(e.message:find(case[3], 1, true), e.message)
    end)
  end

  it("as a whole when it is no table", function()
    assert.is_truthy(refusal("hello").message:find("expected a table, got string", 1, true))
  end)

  it("with file and line when the place is known", function()
    local _, e = pcall(pod_spec.check, pod(function(_, c) c.rootsf = 1 end), { base = "/", locate = function() return "pod.lua:7: " end })
    assert.is_truthy(e.message:find("^pod.lua:7: containers.web.rootsf"), e.message)
  end)
end)
