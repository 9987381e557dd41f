// Parses diagrams with Mermaid itself. Each line of the input is [diagram, whether to say what is in it], as
// JSON; each line of the output says that, or what is wrong with it.
import { createInterface } from 'node:readline';
import { JSDOM } from 'jsdom';

const dom = new JSDOM('<!DOCTYPE html><body></body>');
globalThis.window = dom.window;
globalThis.document = dom.window.document;
const { default: mermaid } = await import('mermaid');

async function look([text, inside]) {
  try {
    await mermaid.parse(text);
    if (!inside) return {};
    const { db } = await mermaid.mermaidAPI.getDiagramFromText(text);
    const messages = db.getMessages().map(({ from, to, type, message }) => [from, to, type, message]);
    const actors = [...db.getActors().values()].map(({ description }) => description);
    return { messages, actors };
  } catch (error) {
    return { error: String(error.message ?? error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await look(JSON.parse(line))) + '\n');
}
