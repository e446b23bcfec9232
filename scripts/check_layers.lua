-- Compares the #include lines below csrc/ with csrc/LAYERS: a layer may use itself and what stands above it.
-- Also: lua.h and its friends are known to csrc/bind alone, and to csrc/testing, which tests it. Prints what is wrong, one line each.
--   lua5.4 scripts/check_layers.lua      from the root of the checkout

local rank, layers = {}, {}
for layer in io.lines("csrc/LAYERS") do
  layers[#layers + 1] = layer
  rank[layer] = #layers
end

local wrong, seen = {}, 0

local function report(path, line, text, ...)
  wrong[#wrong + 1] = ("%s:%d: " .. text):format(path, line, ...)
end

local function check(path, layer)
  local number = 0
  for line in io.lines(path) do
    number = number + 1
    local quoted = line:match('^%s*#%s*include%s+"([^"]+)"')
    local system = line:match("^%s*#%s*include%s+<([^>]+)>")
    local target = quoted and quoted:match("^([%w_]+)/")
    if quoted and not target then
      if not io.open(path:match("^(.*/)") .. quoted) then
        report(path, number, 'write "%s/%s": includes name their layer', layer, quoted)
      end
    elseif target and not rank[target] then
      report(path, number, "%s is not a layer of csrc/LAYERS", target)
    elseif target and rank[target] > rank[layer] then
      report(path, number, "%s may not use %s, which stands below it in csrc/LAYERS", layer, target)
    end
    local header = quoted or system
    if header and layer ~= "bind" and layer ~= "testing" and (header:match("^lua%w*%.h$") or header:match("^lauxlib%.h$")) then
      report(path, number, "only csrc/bind may include %s", header)
    end
  end
end

local list = assert(io.popen("find csrc -mindepth 2 -name '*.[ch]' | LC_ALL=C sort"))
for path in list:lines() do
  seen = seen + 1
  local layer = path:match("^csrc/([^/]+)/")
  if rank[layer] then
    check(path, layer)
  else
    wrong[#wrong + 1] = ("%s: csrc/%s is not in csrc/LAYERS"):format(path, layer)
  end
end
list:close()
if seen == 0 then wrong[1] = "no C file found below csrc/" end

for _, text in ipairs(wrong) do print(text) end
os.exit(#wrong == 0)
