// How a peer's program on Node talks with the driver; the same as talk.py.

import { readFileSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";

export const order = JSON.parse(process.argv[2]);
const quiet = ["drain", "load", "small"].includes(order.scenario);

// The packages are in a folder beside, where an import statement does not look.
export const load = (name) =>
  import(pathToFileURL(createRequire(`${order.modules}/here.js`).resolve(name)));

export const now = () => Number(process.hrtime.bigint()) / 1e9;

export const say = (line) => writeSync(1, JSON.stringify(line) + "\n");

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function hear() {
  const { value, done } = await lines.next();
  return done ? null : JSON.parse(value);
}

export async function readyToWork() {
  say({ event: "loaded" });
  if (!(await hear())) process.exit();
  hear().then(() => process.exit()); // the driver is gone
}

// one(number) enqueues one, many(numbers) all at once.
export async function enqueueOnDemand(one, many) {
  say({ event: "loaded" });
  for (let command; (command = await hear()); ) {
    const numbers = Array.from({ length: command.count }, (_, n) => command.first + n);
    const sent = [];
    const took = [];
    if (command.gap) {
      const [low, high] = command.gap;
      for (const number of numbers) {
        await sleep(1000 * (low + Math.random() * (high - low)));
        sent.push(now());
        await one(number);
        took.push(now() - sent.at(-1));
      }
    } else {
      await many(numbers);
    }
    say({ event: "sent", at: sent, took });
  }
}

let saidStarted = false;

export function started(number) {
  const at = now();
  if (quiet && saidStarted) return;
  saidStarted = true;
  say({ event: "started", number, at });
}

let content, pages;

function makePage(number) {
  if (quiet) {
    pages ??= JSON.parse(readFileSync(order.pages, "utf8"));
    return `<!-- ${number} -->${pages[number % pages.length]}`;
  }
  content ??= readFileSync(order.page, "utf8");
  return `<!-- ${number} -->${content}`;
}

export function first(number) {
  if (quiet) started(number);
  const page = Buffer.from(makePage(number)).toString(); // flat, not a rope of two strings
  if (!quiet) say({ event: "left", number, at: now() });
  return page;
}

export function second(page) {
  const at = now();
  if (quiet) return;
  const number = Number(page.slice(5, page.indexOf(" -->")));
  say({ event: "arrived", number, at, equal: page === makePage(number) });
}
