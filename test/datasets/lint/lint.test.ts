// SPDX-License-Identifier: Apache-2.0
// Linting: each check finds what it is for and nothing else; scripts and shares of common pieces agree with counting them
// plainly; what a context would cut is what feeding then cuts.
import { readFileSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { Place } from '../../../datasets/files/place.js';
import {
  batches,
  type Check,
  composer,
  composeTaco,
  examples,
  LANGUAGES,
  Linter,
  type LintReport,
  parseTaco,
  type Row,
  readRowFiles,
  tableOf,
  templateNamed,
  tokenize,
} from '../../../datasets/index.js';
import { Duplicates, NEAR, REMEMBERED } from '../../../datasets/lint/duplicates.js';
import { residualEnglish } from '../../../datasets/lint/english.js';
import { proseOf, scriptShares } from '../../../datasets/lint/script-shares.js';
import { loadTokenizer } from '../../../tokenizer/index.js';
import { shared, suite } from '../../support/harness.js';
import { collect, file, jsonLines, toyEncoder } from '../toy.js';

const test = suite('datasets: lint');

test('scripts: as regular expressions count them', () => {
  const texts = [
    'पानी के हो?',
    'Привет, мир',
    'مرحبا',
    '日本語のテキスト',
    '한국어 텍스트',
    'ꯃꯤꯇꯩꯂꯣꯟ',
    'ދިވެހި',
    '12 + 3 = 15',
    'naïve Ωmega',
    'ⵜⵉⴼⵉⵏⴰⵖ',
    '𐐨 𝒳',
  ];
  const scripts = [...new Set(LANGUAGES.flatMap((language) => language.scripts))];
  for (const text of texts) {
    const letters = text.match(/\p{L}/gu)?.length ?? 0;
    for (const script of scripts) {
      const own = text.match(new RegExp(`(?=\\p{L})\\p{Script=${script}}`, 'gu'))?.length ?? 0;
      const shares = scriptShares(text, [script]);
      assert.equal([shares.letters, Math.round(shares.own * letters)], [letters, own], `${text} in ${script}`);
    }
  }
});

test('what is no prose is not counted', () => {
  const text = 'पाठ `let x` https://example.org/पथ <b>मोटो</b> a@b.cd ```js\nconst y = 1;\n``` अन्त';
  assert.is(proseOf(text).replaceAll(/\s+/g, ' '), 'पाठ मोटो अन्त');
});

/** Pieces of five UTF-16 units, as sets. */
function commonShare(a: string, b: string): number {
  const pieces = (text: string) => new Set(Array.from({ length: text.length - 4 }, (_, i) => text.slice(i, i + 5)));
  const [p, q] = [pieces(a), pieces(b)];
  const common = [...p].filter((piece) => q.has(piece)).length;
  return common / (p.size + q.size - common);
}

/** Text of random words; the seed decides it. */
function randomText(seed: number, words: number): string {
  let state = seed * 2654435761 + 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  return Array.from({ length: words }, () =>
    Array.from({ length: 3 + Math.floor(next() * 6) }, () => String.fromCharCode(0x915 + Math.floor(next() * 30))).join(
      '',
    ),
  ).join(' ');
}

test('near duplicates: by the share of common pieces', () => {
  let [found, clear] = [0, 0];
  for (let seed = 0; seed < 400; seed++) {
    const original = randomText(seed, 60);
    // Words are replaced, from none to half of them.
    const words = original.split(' ');
    const changed = words
      .map((word, i) => (i < Math.floor(seed / 20) ? randomText(seed + 1000 + i, 1) : word))
      .join(' ');
    const share = commonShare(original, changed);
    const seen = new Duplicates();
    seen.add(original, 7);
    const result = seen.add(changed, 8);
    if (share > NEAR + 0.08) {
      clear++;
      if (result) found++;
      assert.is(result?.exact ?? false, original === changed);
    }
    if (share < NEAR - 0.15) assert.is(result, undefined, `share ${share}`);
    if (result) assert.is(result.earlier, 7);
  }
  assert.ok(clear > 30 && found / clear > 0.95, `${found} of ${clear}`);
});

test('exact duplicates are found however short, other texts are not', () => {
  const seen = new Duplicates();
  for (let i = 0; i < 5000; i++) assert.is(seen.add(`row ${i}`, i), undefined);
  for (let i = 0; i < 5000; i += 97) assert.equal(seen.add(`row ${i}`, 9), { earlier: i, exact: true });
  const bounded = new Duplicates();
  for (let i = 0; i < REMEMBERED + 10; i++) bounded.add(`r${i}`, i);
  assert.is(bounded.add('r5', 0), undefined, 'forgotten');
  assert.equal(bounded.add(`r${REMEMBERED + 5}`, 0), { earlier: REMEMBERED + 5, exact: true });
});

test('English that was left in', () => {
  const english = 'Here are some of the things that you should know about this, and what they are for.';
  for (const [text, latin, expected] of [
    [english, true, true],
    [`यो पाठ हो। ${english} अन्त`, false, true],
    ['यो Microsoft Windows Operating System Version Eleven हो', false, false],
    ['यो ``` the quick brown fox and the lazy dog that you have ``` हो', false, false],
    ['Dies ist ein deutscher Satz, in dem kein Wort zu finden ist, das auf Englisch wäre.', true, false],
    ['Dit is een Nederlandse zin die over het weer gaat, of over de zee, is het niet?', true, false],
    ['Et dansk sprog har ord som have og and, of en god ide om det.', true, false],
    ['the the', true, false],
  ] as const) {
    assert.is(residualEnglish(text, latin) !== undefined, expected, text);
  }
});

const good = (i: number) => ({
  instruction: `प्रश्न ${i} ${randomText(i, 8)}`,
  input: '',
  output: `उत्तर ${randomText(i + 5000, 20)}`,
});

async function lint(rows: unknown[], ending = 'jsonl', path = file(jsonLines(rows), ending)): Promise<LintReport> {
  const linter = new Linter();
  for await (const row of readRowFiles({
    path,
    language: 'Nepali',
    onBad: (fault, count) => linter.addBad(fault, count),
  }))
    linter.add(row);
  return linter.report();
}

/** The checks that found something. */
const found = ({ findings }: LintReport) =>
  Object.fromEntries(
    Object.entries(findings)
      .filter(([, { count }]) => count > 0)
      .map(([check, { count }]) => [check, count]),
  );

test('each check finds what it is for, and good rows have nothing', async () => {
  const rows = Array.from({ length: 20 }, (_, i) => good(i));
  assert.equal(found(await lint(rows)), {});
  const whole = composeTaco({ instruction: 'What?', response: 'That.', answer: rows[0]!.output }, 'Nepali', 'released');
  const cases: [Check, object][] = [
    ['badRow', { instruction: 'x' }],
    ['noFinalAnswer', { ...good(30), output: whole.slice(0, 60) }],
    ['noOutput', { ...good(31), output: ' ' }],
    ['nan', { ...good(32), output: 'nan' }],
    ['wrongScript', { ...good(33), output: 'Это русский ответ на вопрос' }],
    ['mixedScript', { ...good(34), output: `${randomText(9, 6)} слово за словом идёт` }],
    [
      'residualEnglish',
      { ...good(35), output: `${randomText(10, 60)} this is what you should have read there ${randomText(11, 60)}` },
    ],
    ['templateMarks', { ...good(36), output: `${randomText(12, 20)} ### Response: ${randomText(13, 20)}` }],
    ['templateMarks', { ...good(37), output: `${randomText(14, 20)} <|im_end|>` }],
    ['duplicate', rows[3]!],
    ['nearDuplicate', { ...rows[4]!, output: `${rows[4]!.output}!` }],
  ];
  for (const [check, row] of cases) {
    const report = await lint([...rows, row]);
    assert.equal(found(report), { [check]: 1 }, `${check}: ${JSON.stringify(row)}`);
    const { share, examples: shown } = report.findings[check];
    assert.ok(Math.abs(share - 1 / 21) < 1e-9);
    assert.is(shown.length, 1);
    if (check === 'duplicate') assert.match(shown[0]!.where, /jsonl, line 21, byte \d+ repeats .*jsonl, row 4$/);
    else if (check !== 'badRow') assert.match(shown[0]!.where, /jsonl, line 21/);
  }
});

test('the input "nan" is none, an answer in Latin letters is right where the language has them', async () => {
  assert.equal(found(await lint([{ ...good(1), input: 'nan' }])), {});
  const linter = new Linter();
  const place = new Place('x', 0);
  const row: Row = {
    id: '1',
    instruction: 'Swali ni nini hapa?',
    input: '',
    output: 'Jibu la swali hili ni refu kidogo.',
    language: 'Swahili',
  };
  linter.add({ item: row, id: '1', place });
  assert.equal(found(linter.report()), {});
});

test('unlabelled rows among chains, unfinished ones, and three examples of many', async () => {
  const rows = Array.from({ length: 12 }, (_, i) => good(i));
  const path = file(JSON.stringify(rows), 'json');
  const linter = new Linter();
  for await (const row of readRowFiles({ path, language: 'Nepali', source: 'taco' })) linter.add(row);
  const report = linter.report();
  assert.equal(found(report), { noLabels: 12 });
  assert.is(report.findings.noLabels.examples.length, 3);
});

test('the published responses: exactly the known ones are unfinished', async () => {
  for (const [language, unfinished] of [
    ['Nepali', 3],
    ['Sanskrit', 1],
  ] as const) {
    const rows = Array.from({ length: 80 }, (_, i) => ({
      instruction: `${language} ${i}`,
      input: '',
      output: readFileSync(shared('data', 'taco', 'responses', language.toLowerCase(), `${i + 1}.txt`), 'utf8'),
    }));
    const linter = new Linter();
    for await (const row of readRowFiles({ path: file(jsonLines(rows)), language })) linter.add(row);
    const { findings } = linter.report();
    assert.is(findings.noFinalAnswer.count, unfinished, language);
    assert.ok(findings.wrongScript.count <= 2, `${language}: ${findings.wrongScript.count} in another script`);
    assert.is(findings.templateMarks.count, 0, `${language}: ${JSON.stringify(findings.templateMarks.examples)}`);
  }
});

test('what a context would cut is what feeding cuts', async () => {
  const encoder = loadTokenizer(shared('tokenizers', 'llama.model'));
  const rows = Array.from({ length: 80 }, (_, i): Row[] => {
    const parsed = parseTaco(
      readFileSync(shared('data', 'taco', 'responses', 'nepali', `${i + 1}.txt`), 'utf8'),
      'Nepali',
    );
    if (!parsed.complete) return [];
    const { instruction, response, answer } = parsed.chain;
    return [
      {
        id: String(i),
        instruction: `प्रश्न ${i}`,
        input: '',
        output: answer,
        language: 'Nepali',
        english: { instruction, input: '', output: response },
      },
    ];
  }).flat();
  const options = { task: 'taco', template: templateNamed('guanaco') } as const;
  const contexts = [256, 512, 1024, 2048];
  const linter = new Linter(contexts);
  const compose = composer(options);
  for (const item of rows) {
    const example = compose(item);
    linter.add(
      { item, id: item.id, place: new Place('x', 0) },
      typeof example === 'string' ? example : tokenize(example, encoder),
    );
  }
  const lengths = linter.report().lengths!;
  assert.is(lengths.examples, 77);
  const source = examples(tableOf(rows), options, encoder);
  const counted = (await Promise.all(rows.map((_, i) => source.read(i))))
    .map((example) => (typeof example === 'string' ? 0 : example.ids.length))
    .sort((a, b) => a - b);
  assert.equal([lengths.median, lengths.p90, lengths.longest], [counted[38], counted[69], counted.at(-1)]);
  for (const { context, longer, cutFinalAnswers, lostFinalAnswers } of lengths.contexts) {
    const fed = await collect(
      batches([{ source }], { B: 1, T: context, tooLong: 'truncate', seed: 0, shuffle: false, pack: false, epochs: 1 }),
    );
    const { counts } = fed.at(-1)!;
    // A feed drops what has no target left; here it is a final answer that is lost.
    const without = counts.unusable.noTarget ?? 0;
    assert.equal(
      [longer, cutFinalAnswers, lostFinalAnswers],
      [counts.truncated + without, counts.cutFinalAnswers, counts.lostFinalAnswers + without],
      `${context}`,
    );
  }
});

test('rows that give no example are told with their reason', () => {
  const linter = new Linter([10]);
  const item: Row = { id: '1', instruction: 'क', input: '', output: 'ख', language: 'Nepali' };
  const compose = composer({ task: 'taco', template: templateNamed('plain') });
  const example = compose(item);
  linter.add(
    { item, id: '1', place: new Place('x', 0) },
    typeof example === 'string' ? example : tokenize(example, toyEncoder()),
  );
  assert.equal(linter.report().lengths?.unusable, { noEnglish: 1 });
});
