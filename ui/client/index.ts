// The client of Netra's public contract: REST, socket and types.

export { Api, ApiError, auth, type Credentials } from './rest';
export { EventSocket, openWire, type Connection, type Wire } from './socket';
export * from './types';
