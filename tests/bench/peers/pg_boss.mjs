// pg-boss. A queue for each kind of job.

import { enqueueOnDemand, first, load, order, readyToWork, second, started } from "./talk.mjs";

const { PgBoss } = await load("pg-boss");
const { boss: bossOptions, queue: queueOptions, work: workOptions } = order.options;

const connect = (options) => {
  const boss = new PgBoss({ connectionString: order.url, ...options });
  boss.on("error", console.error);
  return boss.start();
};

async function setUp() {
  const boss = await connect(bossOptions);
  for (const name of ["job", "first", "second"]) await boss.createQueue(name, queueOptions);
  await boss.stop();
}

async function work() {
  await readyToWork();
  const boss = await connect(bossOptions);
  const serve = (name, handle) =>
    boss.work(name, workOptions ?? {}, async (jobs) => {
      for (const { data } of jobs) await handle(data);
    });
  if (["wake", "drain", "idle"].includes(order.scenario)) {
    await serve("job", ({ n }) => started(n));
  } else {
    await serve("first", ({ n }) => boss.send("second", { page: first(n) }));
    await serve("second", ({ page }) => second(page));
  }
}

async function enqueue() {
  const boss = await connect({ supervise: false, schedule: false });
  const queue = ["wake", "drain"].includes(order.scenario) ? "job" : "first";
  await enqueueOnDemand(
    (n) => boss.send(queue, { n }),
    (numbers) => boss.insert(queue, numbers.map((n) => ({ data: { n } }))),
  );
  await boss.stop();
}

await { setup: setUp, work, enqueue }[order.role]();
