// A bad release: never becomes ready.
package main

import "time"

func main() { time.Sleep(time.Hour) }
