// Run examples in one process, one after the other. Each is {environment, file} on stdin, `file` being a module to load;
// for each a line of JSON tells its output and, where it failed, the error.

import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";
import { format } from "node:util";

const lines = [];
const print = console.log;
console.log = (...values) => lines.push(format(...values));

for (const { environment, file } of JSON.parse(await text(process.stdin))) {
  Object.assign(process.env, environment);
  lines.length = 0;
  let error = "";
  try {
    await import(pathToFileURL(file));
  } catch (thrown) {
    error = String(thrown);
  }
  print(JSON.stringify({ output: lines.join("\n"), error }));
}
