// SPDX-License-Identifier: Apache-2.0
// The languages of MITS: name, code, scripts, and the spellings that files use for them. Knows nothing of files and rows. Names
// are those that folders and labels of the published data have; codes and scripts are Unicode CLDR's, but for the few where
// the name alone would mislead: Google's translation, which the data come from, decides which variant a name stands for.
import { nearest, UserError } from '../errors.js';

export interface Language {
  /** In English, as in TaCo's labels: `Nepali`. */
  name: string;
  /** BCP 47. */
  code: string;
  /** ISO 15924: the scripts its words are written in. */
  scripts: readonly string[];
}

/** name | code | scripts | other names and codes */
const TABLE = `
Afrikaans | af | Latn
Albanian | alb | Latn
Amharic | am | Ethi
Arabic | ar | Arab
Armenian | arm | Armn
Assamese | as | Beng
Aymara | ay | Latn
Azerbaijani | az | Latn
Bambara | bam | Latn
Basque | baq | Latn
Belarusian | be | Cyrl
Bengali | bn | Beng | Bangla
Bhojpuri | bho | Deva
Bosnian | bos | Latn
Bulgarian | bg | Cyrl
Burmese | my | Mymr | Myanmar
Catalan | ca | Latn
Cebuano | ceb | Latn
Chichewa | ny | Latn | Nyanja
Chinese | zh-Hans | Hani | Simplified Chinese, Chinese Simplified, zh
Chinese Traditional | zh-Hant | Hani | Traditional Chinese
Corsican | co | Latn
Croatian | hr | Latn
Czech | ces | Latn
Danish | da | Latn
Dhivehi | dv | Thaa | Divehi
Dogri | dgo | Deva
Dutch | dut | Latn
Esperanto | eo | Latn
Estonian | ekk | Latn
Ewe | ee | Latn
Filipino | fil | Latn | Tagalog, tl
Finnish | fi | Latn
French | fr | Latn
Frisian | fy | Latn | Western Frisian
Galician | gl | Latn
Georgian | geo | Geor
German | de | Latn
Greek | el | Grek
Guarani | gn | Latn
Gujarati | gu | Gujr
Haitian Creole | ht | Latn | Haitian
Hausa | ha | Latn
Hawaiian | haw | Latn
Hebrew | he | Hebr | iw
Hindi | hi | Deva
Hmong | hea | Latn
Hungarian | hu | Latn
Icelandic | ice | Latn
Igbo | ibo | Latn
Ilocano | ilo | Latn | Iloko
Indonesian | id | Latn
Irish | ga | Latn
Italian | it | Latn
Japanese | ja | Hira Kana Hani
Javanese | jv | Latn | jw
Kannada | kan | Knda
Kazakh | kaz | Cyrl
Khmer | khm | Khmr
Kinyarwanda | kin | Latn
Konkani | gom | Deva | Goan Konkani, kok
Korean | ko | Hang Hani
Krio | kri | Latn
Kurdish | ckb | Arab | Kurdish Sorani, Sorani, Central Kurdish
Kurdish Kurmanji | ku | Latn | Kurmanji
Kyrgyz | ky | Cyrl | Kirghiz
Lao | lao | Laoo
Latin | la | Latn
Latvian | lav | Latn
Lingala | lin | Latn
Lithuanian | lit | Latn
Luganda | lg | Latn | Ganda
Luxembourgish | lb | Latn
Macedonian | mac | Cyrl
Maithili | mai | Deva
Malagasy | mg | Latn
Malay | may | Latn
Malayalam | mal | Mlym
Maltese | mlt | Latn
Maori | mi | Latn
Marathi | mar | Deva
Meiteilon Manipuri | mni-Mtei | Mtei | Manipuri, Meitei, Meiteilon, mni
Mizo | lus | Latn
Mongolian | drh | Cyrl
Nepali | ne | Deva
Norwegian | no | Latn | Norwegian Bokmål, nb
Oriya | or | Orya | Odia
Oromo | gaz | Latn
Pashto | ps | Arab | Pushto
Persian | fa | Arab | Farsi
Polish | pl | Latn
Portuguese | por | Latn
Punjabi | pa | Guru | Panjabi
Quechua | qu | Latn
Romanian | mo | Latn
Russian | ru | Cyrl
Samoan | sm | Latn
Sanskrit | cls | Deva
Scottish Gaelic | gd | Latn
Sepedi | nso | Latn | Northern Sotho
Serbian | sr | Cyrl Latn
Sesotho | st | Latn | Southern Sotho
Shona | sn | Latn
Sindhi | sd | Arab
Sinhala | si | Sinh | Sinhalese
Slovak | sk | Latn
Slovenian | sl | Latn
Somali | so | Latn
Spanish | es | Latn
Sundanese | su | Latn
Swahili | sw | Latn
Swedish | sv | Latn
Tajik | tg | Cyrl
Tamil | ta | Taml
Tatar | tat | Cyrl
Telugu | te | Telu
Thai | th | Thai
Tigrinya | ti | Ethi
Tsonga | ts | Latn
Turkish | tr | Latn
Turkmen | tk | Latn
Twi | tw | Latn | Akan, ak
Ukrainian | uk | Cyrl
Urdu | ur | Arab
Uyghur | ug | Arab | Uighur
Uzbek | uz | Latn
Vietnamese | vi | Latn
Welsh | cy | Latn
Xhosa | xh | Latn
Yiddish | ji | Hebr
Yoruba | yo | Latn
Zulu | zu | Latn
`;

interface Entry extends Language {
  aliases: readonly string[];
}

const entries: readonly Entry[] = TABLE.trim()
  .split('\n')
  .map((line) => {
    const [name, code, scripts, aliases] = line.split('|').map((cell) => cell.trim());
    return { name: name!, code: code!, scripts: scripts!.split(' '), aliases: aliases?.split(', ') ?? [] };
  });

/** The 132 languages of MITS, by name. */
export const LANGUAGES: readonly Language[] = entries;

const ENGLISH: Entry = { name: 'English', code: 'en', scripts: ['Latn'], aliases: [] };

/** `Haitian_Creole`, `haitian creole`, `haitiancreole` and `Meiteilon (Manipuri)` are letters with something between them. */
const spelling = (text: string) =>
  text
    .normalize('NFKD')
    .replace(/[^\p{L}]/gu, '')
    .toLowerCase();

const bySpelling = new Map<string, Language>(
  [ENGLISH, ...entries].flatMap((language) =>
    [language.name, language.code, ...language.aliases].map((name): [string, Language] => [spelling(name), language]),
  ),
);

/** A language by any spelling of its name, or by its code; those beyond MITS by the names that CLDR has for them. */
export function findLanguage(text: string): Language | undefined {
  const key = spelling(text);
  return bySpelling.get(key) ?? beyondMits().get(key);
}

/** As findLanguage. @param where names the text in the error */
export function languageNamed(text: string, where?: string): Language {
  const language = findLanguage(text);
  if (language) return language;
  const near = nearest(
    text,
    LANGUAGES.map(({ name }) => name),
  );
  throw new UserError({
    expected: 'the English name of a language, or its code',
    found: `'${text}'`,
    where,
    remedy: near === undefined ? "for example 'Nepali' or 'ne'" : `did you mean '${near}'?`,
  });
}

/**
 * The language that a file or folder is named after: `taco-Haitian_Creole.json`, `alpaca-nepali-cleaned`. Names of MITS alone,
 * no codes, since `is`, `my` and `no` are words; the longest where one name is part of another.
 */
export function languageInName(name: string): Language | undefined {
  const words = name
    .replace(/\.[a-z]+(\.(gz|zst))?$/, '')
    .split(/[^\p{L}]+/u)
    .filter(Boolean);
  for (let length = Math.min(3, words.length); length > 0; length--) {
    for (let from = 0; from + length <= words.length; from++) {
      const language = byName.get(spelling(words.slice(from, from + length).join('')));
      if (language) return language;
    }
  }
  return undefined;
}

const byName = new Map<string, Language>([ENGLISH, ...entries].map((language) => [spelling(language.name), language]));
for (const language of entries) {
  for (const alias of language.aliases) if (/^\p{Lu}/u.test(alias)) byName.set(spelling(alias), language);
}

let others: Map<string, Language> | undefined;

/** Languages that ICU knows. Asking it takes a while, so this waits for a name that is not in the table. */
function beyondMits(): Map<string, Language> {
  if (others) return others;
  others = new Map();
  const names = new Intl.DisplayNames('en', { type: 'language', fallback: 'none' });
  const letters = Array.from('abcdefghijklmnopqrstuvwxyz');
  const pairs = letters.flatMap((a) => letters.map((b) => a + b));
  for (const code of [...pairs, ...pairs.flatMap((pair) => letters.map((c) => pair + c))]) {
    const name = names.of(code);
    if (name === undefined) continue;
    const { script } = new Intl.Locale(code).maximize();
    const language = { name, code, scripts: script === undefined ? [] : [script] };
    for (const key of [spelling(name), spelling(code)]) if (!others.has(key)) others.set(key, language);
  }
  return others;
}
