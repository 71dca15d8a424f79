// Verifies webhooks with the standardwebhooks library of npm: each line of the file is a message with its secret and whether it
// is good. Used by tests/it/webhooks/signature.rs; CLIENTS is the folder of the packages.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { Webhook } = createRequire(`${process.env.CLIENTS}/`)("standardwebhooks");
let [good, bad] = [0, 0];
for (const line of readFileSync(process.argv[2], "utf8").split("\n").filter(Boolean)) {
  const message = JSON.parse(line);
  let taken = true;
  try {
    new Webhook(message.secret).verify(message.body, message.headers);
  } catch (error) {
    taken = false;
    if (message.good) throw error;
  }
  assert.equal(taken, message.good, line);
  taken ? good++ : bad++;
}
console.log(JSON.stringify({ good, bad }));
