local cjson = require "cjson"
local client = require "moonshim.guest.client"
local err = require "moonshim.err"
local layout = require "moonshim.guest.layout"
local messages = require "moonshim.guest.messages"
local signals = require "moonshim.signals"
local task = require "moonshim.task"
local virtual = require "support.virtual"

local json = {
  encode = cjson.encode,
  decode = function(text)
    local ok, v = pcall(cjson.decode, text)
    if ok then return v end
    return nil, err.new("invalid_argument", v)
  end,
}

-- A bridge that keeps calls until the spec answers them.
local function bridge()
  local b = { calls = {}, abandoned = {}, closed = 0 }
  function b:call(kind, payload, within, cb)
    if self.refuse then return nil, self.refuse end
    local id = #self.calls + 1
    self.calls[id] = { kind = kind, request = cjson.decode(payload), within = within, cb = cb }
    return id
  end
  function b:abandon(id) self.abandoned[#self.abandoned + 1] = id end
  function b:close() self.closed = self.closed + 1 end
  function b:answer(id, fields) self.calls[id].cb(cjson.encode(fields)) end
  return b
end

local function given(opts)
  local b = bridge()
  return client.new(b, { json = json, limits = opts }), b
end

-- Starts fn, lets it send, then answers call n.
local function answered(b, fields, fn)
  local t = task.spawn(fn)
  task.sleep(1)
  b:answer(#b.calls, fields)
  return t:join()
end

local function failure(fn, ...)
  local ok, e = pcall(fn, ...)
  assert.is_false(ok)
  return err.from(e)
end

describe("the guest client", function()
  it("negotiates version 4 and keeps the capabilities", virtual(function()
    local guest, b = given()
    local capabilities = answered(b, {
      Result = 0, Version = 4, Capabilities = { RuntimeOsType = "Linux", GuestDefinedCapabilities = { SignalProcessSupported = true } },
    }, function() return guest:negotiate() end)
    assert.equal("Linux", capabilities.RuntimeOsType)
    assert.is_true(guest.capabilities.SignalProcessSupported)
    assert.equal(messages.types.negotiate, b.calls[1].kind)
  end))

  it("refuses a guest of another version, and one that hides its capabilities", virtual(function()
    local guest, b = given()
    local e = failure(answered, b, { Result = 0, Version = 3, Capabilities = {} }, function() return guest:negotiate() end)
    assert.equal("protocol", e.code)
    assert.truthy(e.message:find("version 3", 1, true))
    e = failure(answered, b, { Result = 0, Version = 4, Capabilities = {} }, function() return guest:negotiate() end)
    assert.equal("protocol", e.code)
  end))

  it("turns a result into an error with the guest's words, number and origin", virtual(function()
    local guest, b = given()
    local e = failure(answered, b, { Result = -1070137073, ErrorMessage = "container c1\nexists" }, function() guest:create("c1", "{}") end)
    assert.equal("already_exists", e.code)
    assert.equal("guest", e.origin)
    assert.equal("create", e.op)
    assert.equal(0xC037010F, e.hresult)
    assert.equal("create: container c1 exists", e.message)
  end))

  it("cuts an endless error text", virtual(function()
    local guest, b = given()
    local e = failure(answered, b, { Result = -2147467259, ErrorMessage = ("x"):rep(100000) }, function() guest:start "c1" end)
    assert.is_true(#e.message < 1000)
  end))

  for name, answer in pairs { ["no JSON"] = "hello", ["a number"] = "7", ["a half document"] = '{"Result":',
    ["a text as result"] = '{"Result":"x"}' } do
    it("calls an answer that is " .. name .. " a breach of the protocol", virtual(function()
      local guest, b = given()
      local t = task.spawn(function() return failure(guest.start, guest, "c1") end)
      task.sleep(1)
      b.calls[1].cb(answer)
      assert.equal("protocol", t:join().code)
    end))
  end

  it("gives the pid of an executed process and the code of an ended one", virtual(function()
    local guest, b = given()
    assert.equal(173, answered(b, { Result = 0, ProcessId = 173 }, function() return guest:execute("c1", {}, { stdout = 1073741825 }) end))
    assert.same({ CreateStdOutPipe = true }, cjson.decode(b.calls[1].request.Settings.ProcessParameters))
    assert.equal(137, answered(b, { Result = 0, ExitCode = 137 }, function() return guest:wait("c1", 173) end))
    assert.equal(messages.FOREVER, b.calls[2].request.TimeoutInMs)
    assert.is_nil(b.calls[2].within)
    assert.equal(0, answered(b, { Result = 0 }, function() return guest:wait("c1", 173, 50) end))
  end))

  it("hands its deadline to the bridge, and the usual limit when there is none", virtual(function()
    local guest, b = given { default = 60000 }
    answered(b, { Result = 0 }, function() guest:start "c1" end)
    assert.equal(60000, b.calls[1].within)
    answered(b, { Result = 0 }, function() task.deadline(5000, guest.start, guest, "c1") end)
    assert.equal(5000, b.calls[2].within)
  end))

  it("lets a change run to its end although its caller was cancelled", virtual(function()
    local guest, b = given()
    local t = task.spawn(function() guest:create("c1", "{}") end)
    task.sleep(1)
    t:cancel "gave up"
    task.sleep(1)
    assert.is_false(t:done())
    assert.same({}, b.abandoned)
    b:answer(1, { Result = 0 })
    assert.equal("cancelled", failure(t.join, t).code)
  end))

  it("abandons a question and a wait whose caller was cancelled", virtual(function()
    local guest, b = given()
    local t = task.spawn(function() guest:wait("c1", 5) end)
    task.sleep(1)
    t:cancel()
    assert.equal("cancelled", failure(t.join, t).code)
    assert.same({ 1 }, b.abandoned)
  end))

  it("says which request found no connection [#396]", virtual(function()
    local guest, b = given()
    b.refuse = err.new("unavailable", "the bridge is closed: killed by a test")
    local e = failure(guest.start, guest, "c1")
    assert.equal("unavailable", e.code)
    assert.equal("shim", e.origin)
    assert.truthy(e.message:find("start: the bridge is closed: killed by a test", 1, true))
  end))

  it("closes once and tells those who wait for the loss [#397]", virtual(function()
    local guest = given()
    local t = task.spawn(function() return guest:wait_lost() end)
    task.sleep(1)
    guest:close()
    guest:close()
    assert.equal("unavailable", t:join().code)
    assert.equal("unavailable", guest:is_lost().code)
  end))

  it("keeps notifications that come before anyone listens [#400]", virtual(function()
    local guest = given()
    guest:notified(messages.NOTIFICATION, cjson.encode { ContainerId = "c1", Type = "UnexpectedExit" })
    local seen = {}
    guest:on_notify(function(event) seen[#seen + 1] = event.ContainerId end)
    guest:notified(messages.NOTIFICATION, cjson.encode { ContainerId = "c2", Type = "ForcedExit" })
    assert.same({ "c1", "c2" }, seen)
  end))

  it("drops notifications it cannot read, and others than those of containers [#394]", virtual(function()
    local guest = given()
    guest:notified(messages.NOTIFICATION, "garbage")
    guest:notified(messages.NOTIFICATION, "{}")
    guest:notified(0x30200101, cjson.encode { ContainerId = "c1" })
    guest:on_notify(function() error "nothing was expected" end)
  end))

  it("remembers a bounded number of early notifications", virtual(function()
    local guest = given()
    for i = 1, 1000 do guest:notified(messages.NOTIFICATION, cjson.encode { ContainerId = "c" .. i }) end
    local n, first = 0, nil
    guest:on_notify(function(event)
      n, first = n + 1, first or event.ContainerId
    end)
    assert.equal(256, n)
    assert.equal("c745", first)
  end))

  it("syncs a file system by a process of the VM", virtual(function()
    local guest, b = given()
    local t = task.spawn(function() guest:syncfs "/run/mounts/scsi/0_0_0" end)
    task.sleep(1)
    b:answer(1, { Result = 0, ProcessId = 9 })
    task.sleep(1)
    b:answer(2, { Result = 0, ExitCode = 1 })
    assert.truthy(failure(t.join, t).message:find("exit status 1", 1, true))
    assert.equal(layout.NULL, b.calls[1].request.ContainerId)
    assert.same({ "/sbin/moonshim-guest", "syncfs", "/run/mounts/scsi/0_0_0" },
      cjson.decode(b.calls[1].request.Settings.ProcessParameters).CommandArgs)
  end))

  it("asks a guest that knows no signals to end a process, and for nothing else [#562] [#563]", virtual(function()
    local guest, b = given()
    for _, signal in ipairs { 6, 9, 15 } do
      answered(b, { Result = 0 }, function() guest:signal("c1", 7, signal) end)
      assert.equal(7, b.calls[#b.calls].request.ProcessId)
      assert.is_nil(b.calls[#b.calls].request.Options)
    end
    assert.equal("invalid_argument", failure(guest.signal, guest, "c1", 7, 1).code)
    assert.equal(3, #b.calls)
    guest.capabilities = { SignalProcessSupported = true }
    answered(b, { Result = 0 }, function() guest:signal("c1", 7, 15) end)
    assert.same({ Signal = 15 }, b.calls[4].request.Options)
  end))

  it("takes the names of signals that end a process for its end with a guest that knows no signals, and no others [#566]",
    virtual(function()
      local guest, b = given()
      for _, name in ipairs { "TERM", "kill", "Abrt" } do
        answered(b, { Result = 0 }, function() guest:signal("c1", 7, signals.number(name)) end)
        assert.is_nil(b.calls[#b.calls].request.Options)
      end
      for _, name in ipairs { "HUP", "usr1", "INT", "STOP" } do
        assert.equal("invalid_argument", failure(guest.signal, guest, "c1", 7, signals.number(name)).code)
      end
      assert.equal(3, #b.calls)
    end))

  it("does not ask a guest to delete the state of a container that cannot", virtual(function()
    local guest, b = given()
    guest:delete_state "c1"
    assert.equal(0, #b.calls)
    guest.capabilities = { DeleteContainerStateSupported = true }
    answered(b, { Result = 0 }, function() guest:delete_state "c1" end)
    assert.equal(messages.types.delete_state, b.calls[1].kind)
  end))

  it("does not ask a guest for stacks that has none to give [#387]", virtual(function()
    local guest, b = given()
    assert.equal("", guest:dump_stacks())
    assert.equal(0, #b.calls)
  end))
end)
