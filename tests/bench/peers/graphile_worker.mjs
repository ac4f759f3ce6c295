// Graphile Worker as a library. A job that is done is deleted.

import { enqueueOnDemand, first, load, order, readyToWork, second, started } from "./talk.mjs";

const { Logger, makeWorkerUtils, run } = await load("graphile-worker");
const logger = new Logger(() => () => {});
const connectionString = order.url;

const taskList = {
  job: ({ n }) => started(n),
  first: ({ n }, helpers) => helpers.addJob("second", { page: first(n) }),
  second: ({ page }) => second(page),
};

async function setUp() {
  const utils = await makeWorkerUtils({ connectionString, logger });
  await utils.migrate();
  await utils.release();
}

async function work() {
  await readyToWork();
  const runner = await run({
    preset: { worker: { connectionString, logger, ...order.options } },
    taskList,
    parsedCronItems: [],
  });
  await runner.promise;
}

async function enqueue() {
  const utils = await makeWorkerUtils({ connectionString, logger });
  const task = ["wake", "drain"].includes(order.scenario) ? "job" : "first";
  await enqueueOnDemand(
    (n) => utils.addJob(task, { n }),
    (numbers) => utils.addJobs(numbers.map((n) => ({ identifier: task, payload: { n } }))),
  );
  await utils.release();
}

await { setup: setUp, work, enqueue }[order.role]();
