// Builds the vendored files of the console from the packages as they are published.
//
//     node tests/console_browser/vendor.mjs DIRECTORY
//
// writes them into DIRECTORY. A test compares them with `src/console/assets/vendor`. To take a newer version: change
// `vendored.json`, and run this with that folder as DIRECTORY.
//
//     node tests/console_browser/vendor.mjs --tools DIRECTORY
//
// writes what the tests need and the page does not: axe-core.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const is_tools = process.argv[2] === '--tools';
const packages = JSON.parse(readFileSync(join(here, is_tools ? 'tools.json' : 'vendored.json'), 'utf8'));
const into = process.argv[is_tools ? 3 : 2];
if (!into) {
  console.error('usage: node vendor.mjs [--tools] DIRECTORY');
  process.exit(2);
}

// A browser resolves no bare name without an import map, which the policy of the page does not allow.
const PATHS = {
  'preact': './preact.js',
  'preact/hooks': './hooks.js',
  '@preact/signals-core': './signals-core.js',
};

/** The text with the bare names of its imports and exports replaced. */
function with_paths(text, file) {
  const replaced = text.replace(/(\bfrom\s*)"([^".][^"]*)"/g, (all, from, name) => {
    if (!PATHS[name]) throw new Error(`${file} imports ${name}: add its path to PATHS`);
    return `${from}"${PATHS[name]}"`;
  });
  return replaced.replace(/\n?\/\/# sourceMappingURL=.*\n?$/, '\n');
}

/** The published archive of a package, unpacked. */
function unpacked(entry, work) {
  const spec = `${entry.package}@${entry.version}`;
  const packed = execFileSync('npm', ['pack', '--silent', '--pack-destination', work, spec], { encoding: 'utf8' });
  const archive = join(work, packed.trim().split('\n').pop());
  const sha256 = createHash('sha256').update(readFileSync(archive)).digest('hex');
  if (sha256 !== entry.sha256) throw new Error(`${spec}: the archive has the hash ${sha256}, pinned is ${entry.sha256}`);
  const to = join(work, entry.package.replace('/', '-'));
  mkdirSync(to);
  execFileSync('tar', ['xzf', archive, '-C', to, '--strip-components=1']);
  return to;
}

const work = mkdtempSync(join(tmpdir(), 'console-vendor-'));
try {
  mkdirSync(into, { recursive: true });
  const licences = [];
  for (const entry of packages) {
    const from = unpacked(entry, work);
    const name = `${entry.package} ${entry.version} (${entry.licence})`;
    for (const file of entry.files) {
      const text = readFileSync(join(from, file.from), 'utf8');
      if (is_tools) {
        writeFileSync(join(into, file.to), text);
        continue;
      }
      const body = file.to.endsWith('.js') ? with_paths(text, file.from) : text.trimEnd() + '\n';
      const end = file.export_default ? `export default ${file.export_default};\n` : '';
      writeFileSync(join(into, file.to), `/*! ${name}, see LICENSES.txt */\n${body}${end}`);
    }
    const licence = readFileSync(join(from, entry.licence_file), 'utf8').trim();
    licences.push(`${name}\n\n${licence}\n`);
  }
  if (!is_tools) writeFileSync(join(into, 'LICENSES.txt'), licences.join(`\n${'-'.repeat(80)}\n\n`));
} finally {
  rmSync(work, { recursive: true, force: true });
}
