-- Reads what a test runner left behind and prints three numbers: passed failed skipped.
--   lua5.4 scripts/count_tests.lua ctest  FILE   a JUnit file of ctest: each cmocka test inside a program counts
--   lua5.4 scripts/count_tests.lua busted FILE   the output of busted's plain reporter
-- Of several files the sums. Exit status 1 when one does not hold a whole run.

local function count(s, pattern)
  local _, n = s:gsub(pattern, "")
  return n
end

local readers = {}

function readers.ctest(xml)
  if not xml:find("</testsuite>", 1, true) then return nil end
  local passed, failed, skipped = 0, 0, 0
  for head, body in xml:gmatch("<testcase(.-)>(.-)</testcase>") do
    local ok, bad, left = count(body, "%[       OK %]"), count(body, "%[  FAILED  %] [%w_]+\r?\n"), count(body, "%[  SKIPPED %]")
    -- cmocka names a failed test twice, when it fails and in the summary.
    bad = (bad + 1) // 2
    if not head:find('status="run"', 1, true) then
      bad = math.max(bad, 1) -- a crash leaves no line
    elseif ok + bad + left == 0 then
      ok = 1 -- a program that is one test
    end
    passed, failed, skipped = passed + ok, failed + bad, skipped + left
  end
  if passed + failed + skipped == 0 then return nil end
  return passed, failed, skipped
end

function readers.busted(log)
  local passed, failed, errors, pending
  for a, b, c, d in log:gmatch("(%d+) success%w* / (%d+) failure%w* / (%d+) error%w* / (%d+) pending") do
    passed, failed, errors, pending = tonumber(a), tonumber(b), tonumber(c), tonumber(d)
  end
  if not passed or passed + failed + errors + pending == 0 then return nil end
  return passed, failed + errors, pending
end

local sums = { 0, 0, 0 }
for i = 2, #arg do
  local file = io.open(arg[i], "r")
  local counts = file and { readers[arg[1]](file:read("a")) } or {}
  if #counts == 0 then os.exit(1) end
  file:close()
  for k = 1, 3 do sums[k] = sums[k] + counts[k] end
end
if #arg < 2 then os.exit(1) end
print(table.unpack(sums))
