// SPDX-License-Identifier: Apache-2.0
// The entrance of recipes/.

export { KNOWN_MODELS } from './known-models.js';
export { type LoadedRecipe, loadRecipe, parseRecipe, recipeToYaml } from './load.js';
export { type Recipe, type RecipeSource, type RecipeStage, recipeSchema } from './schema.js';
