// SPDX-License-Identifier: Apache-2.0
// Numbers and tables as people read them: units, a sensible number of digits, aligned columns. Knows nothing of what it prints.

/** 1536 → `1.5 KiB`. */
export function bytes(count: number): string {
  return scaled(count, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']);
}

/** 32528943616 → `32.5 G`; with a unit, `32.5 GFLOP`. */
export function quantity(count: number, unit = ''): string {
  return scaled(
    count,
    1000,
    ['', 'k', 'M', 'G', 'T', 'P', 'E'].map((prefix) => prefix + unit),
  );
}

function scaled(value: number, base: number, units: string[]): string {
  let power = 0;
  while (power < units.length - 1 && Math.abs(value) >= base) {
    value /= base;
    power++;
  }
  return `${power === 0 && Number.isInteger(value) ? value : digits(value)} ${units[power]}`.trimEnd();
}

/** Three significant digits, without an exponent where none is needed. */
export function digits(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  return value === 0 || Math.abs(value) >= 99.95 ? value.toFixed(0) : String(value.toPrecision(3));
}

/** 7512 → `2 h 05 min`. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  if (seconds < 1) return `${digits(seconds * 1000)} ms`;
  if (seconds < 60) return `${digits(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${Math.floor(seconds / 60)} min ${String(Math.floor(seconds % 60)).padStart(2, '0')} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, '0')} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/**
 * Rows in columns. `<` left, `>` right, one letter a column.
 * @param indent spaces before each line
 */
export function table(rows: readonly (readonly string[])[], align: string, indent = 0): string {
  const widths = Array.from(align, (_, column) => Math.max(0, ...rows.map((row) => (row[column] ?? '').length)));
  const cell = (text: string, column: number) =>
    align[column] === '>' ? text.padStart(widths[column]!) : text.padEnd(widths[column]!);
  return rows.map((row) => `${' '.repeat(indent)}${row.map(cell).join('  ')}`.trimEnd()).join('\n');
}
