// SPDX-License-Identifier: Apache-2.0
// What `import … from 'tacotune'` gives.
export { UserError } from './errors.js';
