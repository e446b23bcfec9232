local err = require "moonshim.err"
local options = require "moonshim.cli.options"
local pod_spec = require "moonshim.pod_spec"
local run = require "moonshim.cli.run"

local function check(fields)
  local spec = { name = "hello", containers = { web = { rootfs = "root", args = { "sh" } } } }
  for k, v in pairs(fields) do spec[k] = v end
  return pod_spec.check(spec, { base = "/base" })
end

local function refusal(fields)
  local servers = fields.dns and fields.dns.servers
  if type(servers) == "string" then
    fields.dns.servers = {}
    for word in servers:gmatch "%S+" do table.insert(fields.dns.servers, word) end
  end
  local ok, e = pcall(check, fields)
  assert.is_false(ok, "expected a refusal")
  assert.is_true(err.is(e, "invalid_argument"), tostring(e))
  return e.message
end

describe("the network of a pod spec", function()
  it("is none when nothing is said", function() assert.same({ mode = "none" }, check({}).network) end)

  it("is a word, a path or a table", function()
    assert.same({ mode = "bridge" }, check({ network = "bridge" }).network)
    assert.same({ mode = "path", path = "/var/run/netns/x" }, check({ network = "/var/run/netns/x" }).network)
    assert.same({ mode = "path", path = "/base/ns/x" }, check({ network = "./ns/x" }).network)
    local full = { mode = "bridge", bridge = "br9", subnet = "10.9.0.0/16", address = "10.9.0.7" }
    assert.same(full, check({ network = full }).network)
  end)

  it("takes the pod's names with it", function()
    local dns = { servers = { "10.0.0.53", "fd00::53" }, search = { "a.example" } }
    assert.same(dns, check({ network = "bridge", dns = dns }).network.dns)
    assert.same({ servers = {}, search = {} }, check({ dns = {} }).network.dns)
  end)

  for text, fields in pairs {
    ['did you mean "bridge"'] = { network = "brigde" },
    ["write \"none\""] = { network = {} },
    ["must not be empty"] = { network = "" },
    ["expected string"] = { network = 7 },
    ["unknown field (did you mean \"subnet\"?)"] = { network = { mode = "bridge", subnets = "10.0.0.0/8" } },
    ["network.subnet: goes with"] = { network = { mode = "none", subnet = "10.9.0.0/16" } },
    ["is no network; write for example"] = { network = { mode = "bridge", subnet = "10.9.0.0" } },
    ["is no IPv4 address"] = { network = { mode = "bridge", address = "fd00::1" } },
    ["cannot be the name of a bridge"] = { network = { mode = "bridge", bridge = "a/b" } },
    ["dns.servers[2]: \"x\" is no IP address"] = { dns = { servers = { "10.0.0.1", "x" } } },
    ["is no domain"] = { dns = { search = { "a b" } } },
    ["at most 6"] = { dns = { search = { "a", "b", "c", "d", "e", "f", "g" } } },
    ["at most 16"] = { dns = { servers = ("10.0.0.1 "):rep(17) } },
    ["unknown field (did you mean \"servers\"?)"] = { dns = { server = { "10.0.0.1" } } },
    ["is no host name"] = { hostname = "a\nb" },
  } do
    it("is refused: " .. text, function() assert.is_truthy(refusal(fields):find(text, 1, true), refusal(fields)) end)
  end
end)

describe("moonshim run", function()
  local function pod(words)
    local argv = { "run", "--rootfs", "/r" }
    for _, word in ipairs(words) do argv[#argv + 1] = word end
    table.move({ "--", "sh" }, 1, 2, #argv + 1, argv)
    return run.pod(options.parse(argv))
  end
  local function refused(argv) return select(2, pcall(options.parse, argv)).message end

  it("gives the pod the network and the names of its command line", function()
    local p = pod { "--network", "bridge", "--dns", "10.0.0.1", "--dns", "10.0.0.2", "--dns-search", "x" }
    assert.equal("bridge", p.network)
    assert.same({ servers = { "10.0.0.1", "10.0.0.2" }, search = { "x" } }, p.dns)
    assert.is_nil(pod({ "--network", "bridge" }).dns)
  end)

  it("leaves them to the pod file, where there is one", function()
    for _, option in ipairs { "--network", "--dns", "--dns-search" } do
      assert.is_truthy(refused({ "run", option, "bridge", "pod.lua" }):find(option .. " goes with --rootfs", 1, true))
    end
  end)

  it("describes them", function()
    for _, option in ipairs { "--network", "--dns", "--dns-search" } do
      assert.is_truthy(options.help("run"):find(option, 1, true))
    end
  end)
end)
