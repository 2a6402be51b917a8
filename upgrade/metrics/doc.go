// Package metrics lets the counters of a service go on when its process is replaced.
//
// # Promise
//
// Whoever scrapes one address sees counters that never fall, through upgrades that
// succeed, fail, or are taken back. What two generations count at the same time is
// added up; nothing is counted twice, and nothing is lost by an upgrade in which both
// end in good order. This holds for every counter in the registry, the service's own
// and those of the Go runtime and the process included, for the buckets, sum and count
// of classic histograms, and for the sum and count of summaries.
//
// Each generation exposes what it has counted itself, what it has inherited, and what
// the other one, if it lives, says that it has counted:
//
//	old: Serving, Upgrading                      new: Starting, on trial
//	  exposes inherited + own + new's  ◀──asks──▶  counts
//	─────────────────────────── commit ───────────────────────────
//	old: Draining                                new: Serving
//	  counts to the end                ◀──asks──▶  exposes own + old's
//	  last word                        ─────────▶  inherits it
//
// Both always tell the whole: a message that comes late or twice changes nothing. Who
// answers a scrape asks the other first and tells its own figures in the same message,
// so that these do not die with it.
//
// # Limits
//
//   - What a generation that is killed had counted since its last word is lost. The
//     last word is at most as old as the last scrape.
//   - Counters begin anew after a stop or a crash, and after an upgrade from a binary
//     that cannot tell them. A scraper takes that for a restart, which it is.
//   - Gauges are those of the generation that answers: the old one until the commit.
//     The connections and the requests in flight are the sum of both.
//   - Histograms with native buckets (sparse ones) begin anew, and so do the quantiles of
//     a summary. If the buckets of a classic one change from build to build, those
//     that both have go on.
//   - A value that the service carries on by itself ([upgrade.Process.Carry]) would be
//     added twice if it were declared a counter: declare it untyped.
//   - What is no whole number is exposed with a resolution of a millionth.
//   - At most [MaxSeries] series travel. Those that no longer exist in the new binary are
//     kept, at the value that they had, as long as there is room.
//
// [upgrade.Process.Carry]: https://pkg.go.dev/github.com/holdfast-go/holdfast/upgrade#Process.Carry
package metrics
