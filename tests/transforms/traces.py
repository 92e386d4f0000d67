"""
Real stack traces: each block between the bars is one event.
"""

from __future__ import annotations

JAVA = """\
2026-11-22 19:00:01.123 INFO  Started
|2026-11-22 19:00:02.001 ERROR [main] c.a.Shop - order failed
java.lang.IllegalStateException: no stock
\tat com.acme.shop.Cart.total(Cart.java:41)
\tat com.acme.shop.Cart$$Lambda$14/0x0.run(Unknown Source)
\tSuppressed: java.io.IOException: close
\t\tat com.acme.shop.File.close(File.java:9)
\t\t... 3 more
Caused by: com.acme.db.TimeoutException: 5s
\tat com.acme.db.Pool.get(Pool.java:77)
\t... 23 more
Caused by: java.net.SocketTimeoutException
\t... 25 common frames omitted
|2026-11-22 19:00:03.000 INFO  next
|done
|Exception in thread "main" java.lang.RuntimeException: boom
\tat a.B.main(B.java:3)
|java.lang.OutOfMemoryError: heap
\tat a.B.main(B.java:4)
|plain"""
PYTHON = """\
ERROR:root:it failed
Traceback (most recent call last):
  File "/app/x.py", line 3, in f
    g()
    ^^^
  File "/app/x.py", line 9, in g
    raise KeyError("a")
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/x.py", line 5, in <module>
    f()
ValueError: b

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/y.py", line 1, in <module>
RuntimeError
|INFO:root:next
|done
|Traceback (most recent call last):
  File "/app/async.py", line 7, in main
    async with asyncio.TaskGroup() as group:
  + Exception Group Traceback (most recent call last):
  |   File "/app/async.py", line 7, in main
  | ExceptionGroup: unhandled errors (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: x
    +------------------------------------
RuntimeError: group
|plain"""
GO = """\
2026/11/22 19:00:01 listening
|panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x48]

goroutine 1 [running]:
main.(*Server).handle(0xc000010000, {0x0, 0x0})
\t/app/main.go:12 +0x1d
main.main()
\t/app/main.go:5 +0x65

goroutine 18 [chan receive, 2 minutes]:
main.worker(0x0)
\t/app/main.go:40 +0x33
created by main.main in goroutine 1
\t/app/main.go:4 +0x25
exit status 2
|2026/11/22 19:00:05 listening"""
RUBY = """\
I, [2026-11-22T19:00:01.000000 #1]  INFO -- : up
|E, [2026-11-22T19:00:02.000000 #1] ERROR -- : boom (RuntimeError)
app/models/cart.rb:12:in 'Cart#total'
app/controllers/cart_controller.rb:5:in 'show'
|I, [2026-11-22T19:00:03.000000 #1]  INFO -- : next
|/app/x.rb:3:in 'foo': boom (RuntimeError)
\tfrom /app/x.rb:7:in 'bar'
\tfrom /app/x.rb:9:in '<main>'
/app/x.rb:2:in 'rescue in foo': cause (KeyError)
\tfrom /app/x.rb:1:in '<main>'
|plain"""
DOTNET = """\
info: Shop.Cart[0]
      up
|fail: Shop.Cart[0]
      order failed
      System.InvalidOperationException: no stock
       ---> System.TimeoutException: 5s
         at Shop.Db.Get() in /src/Db.cs:line 7
         --- End of inner exception stack trace ---
         at Shop.Cart.Total() in /src/Cart.cs:line 41
|Unhandled exception. System.Exception: outer
 ---> System.ArgumentNullException: inner
   at A.B() in /src/A.cs:line 3
   --- End of inner exception stack trace ---
   at A.Main() in /src/A.cs:line 9
|plain"""
NODE = """\
listening
|TypeError: Cannot read properties of undefined (reading 'x')
    at Object.<anonymous> (/app/index.js:3:13)
    at async main (file:///app/main.mjs:7:3) {
  code: 'E_X',
  [cause]: Error: inner
      at inner (/app/inner.js:1:7)
}
|/app/index.js:3
    throw new Error('boom')
    ^

Error: boom
    at main (/app/index.js:3:11)

Node.js v22.1.0
|done"""
TRACES = {"java": JAVA, "python": PYTHON, "go": GO, "ruby": RUBY, "dotnet": DOTNET, "node": NODE}


def blocks(trace: str) -> list[bytes]:
    """
    The events of a trace: a bar at the beginning of a line ends the one before it.
    """
    return [event.encode() for event in trace.split("\n|")]
