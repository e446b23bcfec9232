local classify = require "moonshim.classify"
local err = require "moonshim.err"

-- One sample per row of each table: { op, code, hresult, alive, class }. A row without a sample fails the last spec.
local SAMPLES = {
  guest = {
    { "modify.remove.CombinedLayers", "unknown", 0x80004005, false, "gone" },
    { "modify.add.mount", "unknown", 0x80004005, false, "gone" },
    { "delete_state", "unknown", 0x80004005, false, "gone" },
    { "signal", "unknown", 0x80004005, false, "gone" },
    { "shutdown", "unknown", 0x80004005, false, "gone" },
    { "resize", "unknown", 0x80004005, false, "gone" },
    { "delete_state", "not_found", 0xC037010E, true, "gone" },
    { "delete_state", "failed_precondition", 0x80370105, true, "failed" },
    { "signal", "not_found", 0x80070490, true, "gone" },
    { "signal", "failed_precondition", 0xC0370110, true, "gone" },
    { "shutdown", "failed_precondition", 0x80370110, true, "gone" },
    { "wait", "not_found", 0x80070490, true, "gone" },
    { "resize", "not_found", 0x80070490, true, "gone" },
    { "modify.remove.Network", "not_found", 0x80070490, true, "gone" },
    { "modify.remove.CombinedLayers", "not_found", 0xC037010E, true, "gone" },
    { "modify.remove.MappedVirtualDisk", "failed_precondition", 0xC0370105, true, "failed" },
    { "modify.add.mount", "deadline_exceeded", 0xC0370109, true, "unknown" },
    { "create", "already_exists", 0xC037010F, true, "failed" },
  },
  host = {
    { "terminate", "not_found", 0x8037010E, false, "gone" },
    { "terminate", "not_found", nil, true, "gone" },
    { "modify.remove.scsi", "not_found", 0x490, true, "gone" },
    { "modify.remove.scsi", "not_found", nil, true, "gone" },
    { "modify.remove.scsi", "failed_precondition", 0x80070006, false, "gone" },
    { "modify.remove.scsi", "failed_precondition", 0x80370105, true, "failed" },
    { "query", "permission_denied", 0x80070005, false, "gone" },
    { "wait", "failed_precondition", 0xC0370110, false, "gone" },
    { "modify.add.scsi", "failed_precondition", 0xC0370110, false, "gone" },
    { "modify.add.scsi", "deadline_exceeded", nil, true, "unknown" },
    { "modify.add.scsi", "cancelled", nil, true, "unknown" },
    { "modify.add.scsi", "resource_exhausted", nil, true, "failed" },
  },
  shim = {
    { "modify.remove.Network", "unavailable", nil, true, "gone" },
    { "modify.remove.mount", "unavailable", nil, false, "gone" },
    { "delete_state", "deadline_exceeded", nil, false, "gone" },
    { "signal", "unavailable", nil, false, "gone" },
    { "shutdown", "unavailable", nil, false, "gone" },
    { "wait", "unavailable", nil, false, "gone" },
    { "resize", "unavailable", nil, false, "gone" },
    { "execute", "unavailable", nil, false, "gone" },
    { "create", "unavailable", nil, false, "gone" },
    { "modify.add.mount", "deadline_exceeded", nil, true, "unknown" },
    { "modify.add.mount", "invalid_argument", nil, true, "failed" },
  },
}

local function error_of(origin, sample) return { code = sample[2], hresult = sample[3], origin = origin, message = "x" } end

describe("the classification", function()
  local used = {}
  for origin, samples in pairs(SAMPLES) do
    for _, s in ipairs(samples) do
      it(("of %s %s %s %s with the VM %s is %s"):format(origin, s[1], s[2], s[3] and ("0x%x"):format(s[3]) or "",
        s[4] and "alive" or "dead", s[5]), function()
        local e = error_of(origin, s)
        used[classify.row(e, { op = s[1], alive = s[4] })] = true
        assert.equal(s[5], classify.class(e, { op = s[1], alive = s[4] }))
      end)
    end
  end

  it("has no row that the samples do not reach", function()
    for origin, rows in pairs(classify.tables) do
      for i, row in ipairs(rows) do
        assert.truthy(used[row], ("%s row %d (%s) has no sample"):format(origin, i, row.why))
        assert.truthy(row.why)
      end
    end
  end)

  it("reads gone as gone wherever it comes from", function()
    for origin in pairs(SAMPLES) do
      assert.equal("gone", classify.class({ code = "gone", origin = origin }, { op = "anything", alive = true }))
    end
  end)

  it("never calls a live VM's lost connection gone", function()
    for _, op in ipairs { "modify.remove.mount", "delete_state", "signal", "shutdown", "wait" } do
      assert.equal("unknown", classify.class({ code = "unavailable", origin = "shim" }, { op = op, alive = true }))
    end
  end)

  it("takes the death of the VM for an answer of its guest, and for none of its host", function()
    local e = { code = "deadline_exceeded", origin = "shim", message = "no answer" }
    for _, op in ipairs { "modify.remove.scsi", "modify.remove.vpci", "modify.remove.nic" } do
      assert.equal("unknown", classify.class(e, { op = op, alive = false, asked = "host" }))
    end
    assert.equal("gone", classify.class(e, { op = "modify.remove.mount", alive = false, asked = "guest" }))
    e = { code = "not_found", origin = "host", message = "no such disk" }
    assert.equal("gone", classify.class(e, { op = "modify.remove.scsi", alive = true, asked = "host" }))
  end)

  it("treats the forms of one code alike", function()
    for _, forms in ipairs {
      { 0xC037010E, 0x8037010E, -1070137074 }, { 0xC0370110, 0x80370110 }, { 0xC0370105, 0x80370105 },
      { 0x490, 0x80070490, -2147023728 }, { 0x5, 0x80070005 }, { 0x6, 0x80070006 }, { 0xC0370106, 0x80370106 },
    } do
      for i = 2, #forms do assert.equal(classify.normal(forms[1]), classify.normal(forms[i])) end
    end
  end)

  it("recognises 0xC037010E as a signed number as not found [#398]", function()
    assert.equal("not_found", classify.code(-1070137074))
    assert.equal("not_found", classify.refusal("guest", "wait", -1070137074, "x").code)
    assert.equal(0xC037010E, classify.refusal("guest", "wait", -1070137074, "x").hresult)
  end)

  it("recognises a guest's 0x80070490 as not found [#399]", function()
    assert.equal("not_found", classify.code(0x80070490))
    assert.equal("gone", classify.class(classify.refusal("guest", "signal", -2147023728, "x"), { op = "signal", alive = true }))
  end)

  it("knows the codes of a missing and of a forbidden program", function()
    assert.equal("not_found", classify.code(0x80070002))
    assert.equal("permission_denied", classify.code(0x80070005))
  end)

  it("gives unknown for a number nobody knows", function()
    assert.equal("unknown", classify.code(0x80004005))
    assert.equal("unknown", classify.code(0x81234567))
  end)
end)

describe("a release", function()
  local function alive() return true end

  it("is done when the call succeeds, gone when the error says so", function()
    assert.equal("done", classify.release({ op = "signal", alive = alive }, function() end))
    assert.equal("gone", classify.release({ op = "signal", alive = alive }, function()
      error(classify.refusal("guest", "signal", 0x80070490, "no such process"), 0)
    end))
  end)

  it("goes on with every other error, and with bugs", function()
    local ok, e = pcall(classify.release, { op = "delete_state", alive = alive }, function()
      error(classify.refusal("guest", "delete_state", 0x80370105, "runs"), 0)
    end)
    assert.is_false(ok)
    assert.is_true(err.is(e, "failed_precondition"))
    ok, e = pcall(classify.release, { op = "signal", alive = alive }, function() error "a bug" end)
    assert.is_false(ok)
    assert.equal("string", type(e))
  end)
end)
