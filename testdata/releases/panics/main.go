// A bad release: panics before main.
package main

var limits = map[string]int(nil)

func init() { limits["requests"] = 1 }

func main() {}
