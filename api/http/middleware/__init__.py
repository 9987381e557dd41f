"""What stands around the application, whichever framework has it: each request passes all of it.

Names, origins, tokens, rates, body sizes and times. Runs on the event loop, allocates within bounds, and
refuses with problem details before the application sees a request. The settings of a framework for the
same (allowed hosts, rates, body sizes) know neither ports, origins nor tokens, and bound no time.
"""
