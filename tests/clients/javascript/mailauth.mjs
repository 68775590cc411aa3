// What mailauth, an independent implementation, says of messages: a judge of our checks and seals.
// Reads a JSON file of cases, each with the DNS `zone` as {name: {type: [text]}} and either `content` (base64) or the
// domains of a DMARC evaluation; prints the verdicts as a JSON list. The package's entry point needs a newer Node.js than
// the parts that are used here, so these are loaded by their paths.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const part = name => require(`./node_modules/mailauth/lib/${name}/index.js`);
const { dkimVerify } = require('./node_modules/mailauth/lib/dkim/verify.js');
const { arc } = part('arc');
const { dmarc } = part('dmarc');

const failure = code => Object.assign(new Error(code), { code });

const resolverOf = zone => async (name, type) => {
    const key = name.toLowerCase().replace(/\.$/, '');
    const records = zone[key] ?? {};
    if (records.SERVFAIL) throw failure('ESERVFAIL');
    if (records[type]) return records[type].map(text => (type === 'TXT' ? [text] : text));
    const exists = Object.keys(zone).some(known => known === key || known.endsWith(`.${key}`));
    throw failure(exists ? 'ENODATA' : 'ENOTFOUND');
};

const judgeMessage = async (content, resolver) => {
    const dkim = await dkimVerify(Buffer.from(content, 'base64'), { resolver });
    const chain = await arc(dkim.arc, { resolver });
    return {
        dkim: dkim.results.map(row => ({ result: row.status.result, domain: row.signingDomain ?? '' })),
        arc: chain?.status?.result ?? 'none',
        comment: chain?.status?.comment ?? '',
        instance: chain?.i ?? 0,
        authResults: chain?.authenticationResults?.mta ?? '',
    };
};

const judgeDomains = async ({ from, spf, dkim }, resolver) => {
    const verdict = await dmarc({ headerFrom: [from], spfDomains: spf, dkimDomains: dkim, resolver });
    return { result: verdict.status.result, policy: verdict.policy ?? 'none', organization: verdict.domain ?? '' };
};

const cases = JSON.parse(readFileSync(process.argv[2], 'utf-8'));
const verdicts = [];
for (const { zone, content, dmarc: domains } of cases) {
    const resolver = resolverOf(zone);
    verdicts.push(await (domains ? judgeDomains(domains, resolver) : judgeMessage(content, resolver)));
}
console.log(JSON.stringify(verdicts));
