-- What an image may have in the place of the files that a container gets: it is used, or refused; nothing outside of the image
-- comes to be, and nobody waits.
local agent = require "support.agent"
local gcs = require "support.gcs"
local FAILED, INVALID = 0x80004005, 0x80070057

agent.describe("an image whose files in /etc", function()
  local vm, folder
  local here = agent.root(function(made) folder = made.folder end)
  agent.vm(function(booted) vm = booted end)

  for what, case in pairs {
    ["are fifos"] = { "rm -f *; mkfifo resolv.conf hosts hostname", 0 },
    ["are devices"] = { "rm -f *; for f in resolv.conf hosts hostname; do mknod $f c 1 5; done", 0 },
    ["are folders"] = { "rm -f *; mkdir resolv.conf hosts hostname", FAILED },
    ["are links that go round"] = { "ln -s resolv.conf resolv.conf; ln -s hostname hosts; ln -s hosts hostname", FAILED },
    ["are links that lead out"] = {
      "ln -s /../../../../../tmp/out resolv.conf; ln -s ../../../../tmp/out hosts; ln -s /proc/self/root/tmp/out hostname", FAILED },
    ["lie in a link"] = { "cd .. && rm -r etc && ln -s ../../../tmp etc", 0 },
    ["lie in a link to nowhere"] = { "cd .. && rm -r etc && ln -s /nowhere etc", FAILED },
    ["lie in a file"] = { "cd .. && rm -r etc && : > etc", FAILED },
    ["lie in a fifo"] = { "cd .. && rm -r etc && mkfifo etc", FAILED },
    ["have a fifo for passwd"] = { "rm -f passwd; mkfifo passwd", INVALID },
    ["have a link to itself for passwd"] = { "rm -f passwd; ln -s passwd passwd", INVALID },
  } do
    local make, expected = case[1], case[2]
    it(what .. (expected == 0 and ": runs, with its names" or ": is refused, and nothing is left"), function()
      gcs.sh(("rm -rf %s/img && cp -a %s %s/img && cd %s/img/etc && %s"):format(folder, here.root, folder, folder, make))
      local _, root = vm:share("1", folder .. "/img")
      local before = vm:inside "ls -a / /etc /tmp"
      local line = "cat /etc/hostname; grep -c ' name$' /etc/hosts; cat /etc/resolv.conf"
      local spec = gcs.spec(root, { "sh", "-c", line }, { hostname = "name" })
      if make:find "passwd" then spec.process.user = { username = "daemon" } end
      local code, out = vm:run("c1", spec)
      if expected == 0 then
        assert.same({ 0, "name\n1\n" }, { code, out })
      else
        assert.same({ nil, expected }, { code, out })
      end
      assert.equal(before, vm:inside "ls -a / /etc /tmp")
      assert.equal("", vm:inside "find /run/gcs -path '*pods/*'; find /sys/fs/cgroup -name c1")
    end)
  end
end)
