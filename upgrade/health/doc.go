// Package health says whether a process is fit to serve: before it takes traffic, by
// asking it, and while it does, by what it answers.
//
// # Promise
//
//   - Nobody is called healthy for being silent. A figure that rests on too few
//     requests is [Unknown], neither good nor bad, and so is one of the other
//     generation that has not come.
//   - Nobody is called broken without a figure. Every verdict comes with a sentence
//     that has the number, the limit, what it was compared with, and on how many
//     requests it rests.
//   - Every wait is bounded: a probe by its timeout, a [Gate] by its deadline, a
//     [Judge] by its phase, and all of them by their context.
//   - Watching costs a request no allocation and no lock that another request may
//     hold, and the process no goroutine. A panic passes through unchanged.
//   - A text that cannot be meant is refused when it is read, in one line that says
//     what is wrong and shows one that is right.
//
// # Limits
//
// Figures are of what was answered. A service that hangs answers nothing, and to
// the figures it is a service without traffic: have a rule with a probe, or set
// [Judge].Strict. Nor is a client that gives up a failure; have a rule about latency.
//
// Latencies are those of a histogram, at most 3.2 % or a microsecond off, and end at
// 134 seconds; a window is rounded up to whole slots, each a 240th of its length. What
// a middleware hides cannot be seen: a panic that is recovered below [Window.Handler] is
// a 500, unless [MarkPanic] is called.
//
// Processor time and goroutines are the whole process's. Resident memory is known on
// Linux only. A check that ignores its context is left behind when its time is up, one
// of each probe at most.
//
// # Example
//
//	rules, err := health.ParseRules("success >= 99%", "p95 <= 1.5x old or 20ms")
//	window := health.NewWindow(health.Longest(rules))
//	server.Handler = window.Handler(server.Handler)
//	report, err := health.Judge{Rules: rules, Phase: time.Minute, Own: window.Snapshot}.Run(ctx)
//
// # How it fits together
//
//	                     before traffic            under traffic
//
//	config text ──▶ ParseProbe                ParseRule ◀── config text
//	                    │                         │
//	                    ▼                         ▼
//	handler ◀─asks─── Probe ◀── Gate          Judge ──▶ Report
//	                    ▲                      │  ▲ ▲
//	                    └──────────────────────┘  │ └─ Decode ◀── the old
//	                                              │               generation's
//	requests ──▶ Window.Handler ──▶ Window ──▶ Snapshot ──▶ Encode
//
// A gate asks all its probes until they have succeeded several times in a row. A
// window counts what the service answers, always. During a phase a judge compares
// snapshots of it with the rules, and with the other generation's snapshots over the
// same time, until a rule is broken or the phase is over. [ParseProbe] and
// [ParseRule] have the grammars.
package health
