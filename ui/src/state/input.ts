// What a question is to an agent: its text, or, for an agent that takes no text, the object that was written as JSON.

import type { Agent } from '../../client';

interface Schema {
  properties?: Record<string, { type?: string; description?: string }>;
  required?: string[];
}

export class NotAnObject extends Error {}

function schemaOf(agent: Agent): Schema {
  return (typeof agent.input_schema === 'object' && agent.input_schema !== null ? agent.input_schema : {}) as Schema;
}

/** Whether the agent can be asked in plain words. */
export function takesText(agent: Agent | undefined): boolean {
  if (!agent) return true;
  const { properties, required = [] } = schemaOf(agent);
  return (properties === undefined || 'text' in properties) && required.every((name) => name === 'text');
}

/** The fields besides the text, with what the agent says of them. */
export function fieldsOf(agent: Agent): { name: string; required: boolean; about: string }[] {
  const { properties = {}, required = [] } = schemaOf(agent);
  return Object.entries(properties)
    .filter(([name]) => name !== 'text')
    .map(([name, { description, type }]) => ({ name, required: required.includes(name), about: description ?? type ?? '' }));
}

/** An object may be written to any agent that takes more than a text. */
export function inputFor(agent: Agent | undefined, text: string): unknown {
  if (!agent || fieldsOf(agent).length === 0) return text;
  const object = objectIn(text);
  if (object === undefined && !takesText(agent)) throw new NotAnObject();
  return object ?? text;
}

function objectIn(text: string): object | undefined {
  if (!text.startsWith('{')) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
