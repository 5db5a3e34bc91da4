// Judges requests by IAM policies with @cloud-copilot/iam-simulate, an evaluator of others that works offline.
// Standard input: {"policies": [document, …], "requests": [{"policies": [index, …], "action", "resource", "context"}]}
// Standard output: one of "Allowed", "ImplicitlyDenied", "ExplicitlyDenied" or "error: …" for each request.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const [folder] = process.argv.slice(2)
const require = createRequire(pathToFileURL(`${folder}/package.json`))
const { runSimulation } = require('@cloud-copilot/iam-simulate')

const { policies, requests } = JSON.parse(readFileSync(0, 'utf8'))
const accountId = '123456789012'
const answers = []
for (const { policies: chosen, action, resource, context } of requests) {
  const { resultType, errors, overallResult } = await runSimulation({
    request: {
      principal: `arn:aws:iam::${accountId}:user/operator`,
      action,
      resource: { resource, accountId },
      contextVariables: context,
    },
    identityPolicies: chosen.map((index) => ({ name: String(index), policy: policies[index] })),
    serviceControlPolicies: [],
    resourceControlPolicies: [],
  }, {})
  answers.push(resultType === 'error' ? `error: ${JSON.stringify(errors)}` : overallResult)
}
console.log(JSON.stringify(answers))
