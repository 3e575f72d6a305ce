-- For wrk: every request registers a fresh, valid public key; each account is used so often and no more.
-- wrk … -s registrations.lua URL -- FILE_OF_ACCOUNT_NUMBERS DEVICES_EACH

local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local letters = {}
for i = 1, 64 do letters[i - 1] = alphabet:sub(i, i) end
-- 42 random letters, and a last one whose unused bits are zero; the 43rd holds the key's last bits.
-- The letter before it is chosen so that bit 255 is 0 and the value below the prime.
local last = { "A", "E", "I", "M", "Q", "U", "Y", "c", "g", "k", "o", "s", "w", "0", "4", "8" }
local numbers, devices, at, used = {}, 5, 1, 0
local headers = { ["Content-Type"] = "application/json" }

function init(args)
  local seed = io.open("/dev/urandom", "rb"):read(4)
  math.randomseed(seed:byte(1) + seed:byte(2) * 256 + seed:byte(3) * 65536)
  for line in io.lines(args[1]) do numbers[#numbers + 1] = line end
  devices = tonumber(args[2])
end

function request()
  local key = {}
  for i = 1, 41 do key[i] = letters[math.random(0, 63)] end
  -- Letters 42 and 43 hold bits 246 to 255 of the little-endian key in their low ends: byte 31 is
  -- four bits of the 42nd letter and four of the 43rd. Keeping the 42nd letter's bit 3 at zero keeps
  -- byte 31 below 0x80.
  key[42] = letters[math.random(0, 3) * 16 + math.random(0, 7)]
  key[43] = last[math.random(1, 16)]
  if used == devices then at, used = at + 1, 0 end
  used = used + 1
  headers["Authorization"] = "Bearer " .. (numbers[at] or numbers[#numbers])
  return wrk.format("POST", "/v1/devices", headers, '{"public_key":"' .. table.concat(key) .. '="}')
end

function response(status)
  if status ~= 201 then bad = (bad or 0) + 1 end
end

function done(summary, latency)
  io.write(string.format("RESULT %d %f %f %f %d\n", summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, summary.errors.status))
end
