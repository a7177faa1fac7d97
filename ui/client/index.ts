// The client of Netra's public contract.

export type { Connection, Filter, Hooks, StartedRun, Wire } from './socket.js';
export type { PlanLimits } from './admin.js';
export type { Clock } from './clock.js';
export type { Place } from './cursor.js';
export type { Credentials } from './http.js';
export type { Listing, NewRun, Repeatable } from './resources.js';
export { ApiError, CursorExpired, NetraError, type LogRange } from './errors.js';
export { EventSocket } from './socket.js';
export { EventStream, type StreamOptions } from './stream.js';
export { Netra, type NetraOptions, type WebSocketClass } from './netra.js';
export { TokenPair } from './tokens.js';
export * from './types.js';
