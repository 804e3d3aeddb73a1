/** What a plugin's file exports: `export * from "./exports"`. */
export {
  rowmill_abi,
  rowmill_alloc,
  rowmill_batch,
  rowmill_free,
  rowmill_init,
  rowmill_row,
  rowmill_schema,
} from "./rowmill";
