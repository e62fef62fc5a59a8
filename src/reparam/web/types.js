/**
 * What the explorer's page and an exported one have in common: how a model is asked, and what the map has to know.
 *
 * @typedef {{data: Uint8Array | Float32Array | Int32Array, shape: number[]}} NamedArray
 * @typedef {{header: Record<string, any>, arrays: Record<string, NamedArray>}} Answer
 * @typedef {{name: string, title?: string, kind: string, values?: string[]}} Column what is known of each point
 *
 * @typedef {{call: (op: string, fields?: Record<string, any>, lane?: string, file?: ArrayBuffer) => Promise<Answer | null>}} Asked
 *   a model behind `call`, wherever it runs: of the calls of a lane only the latest is sure of an answer
 *
 * @typedef {{backend: Asked, hello: {points: {columns: Column[]}}, changed: () => void, tool: (lasso: boolean) => void}} MapContext
 *   `changed` is told of each change of the view, `tool` whether a lasso is being drawn
 */
export {};
